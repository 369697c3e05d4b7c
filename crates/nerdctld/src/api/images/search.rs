//! `GET /images/search`.

use docker_wire::filters::{self, Filters};
use docker_wire::images::ImageSearchItem;
use engine::images::{FoundImage, SearchRequest};

use crate::api::auth;
use crate::api::call::{Answer, Call};
use crate::api::error::Refusal;
use crate::api::reply::Reply;

/// `GET /images/search`. Only Docker Hub is asked, or the registry that the term begins with.
pub(in crate::api) async fn search(call: Call) -> Answer {
    let found = call.engine.search_images(&request(&call)?).await?;
    Ok(Reply::json(&found.into_iter().map(item).collect::<Vec<_>>()))
}

fn request(call: &Call) -> Result<SearchRequest, Refusal> {
    let limit = call.query.text("limit");
    let limit = if limit.is_empty() { Ok(0) } else { limit.parse::<i64>() };
    let limit = limit
        .ok()
        .filter(|limit| *limit >= 0)
        .ok_or_else(|| Refusal::BadParameter("invalid limit specified".to_owned()))?;
    let given = Filters::parse(call.query.text("filters"))?;
    given.accept_only(filters::IMAGE_SEARCH)?;
    let mut stars = 0;
    for value in given.values("stars") {
        let number: i64 = value
            .parse()
            .map_err(|_| Refusal::BadParameter(format!("invalid filter 'stars={value}'")))?;
        stars = stars.max(number);
    }
    Ok(SearchRequest {
        term: call.query.text("term").to_owned(),
        limit,
        official: given.flag("is-official")?,
        automated: given.flag("is-automated")?.unwrap_or_default(),
        stars,
        credentials: auth::from_header(call),
    })
}

fn item(found: FoundImage) -> ImageSearchItem {
    ImageSearchItem {
        star_count: found.stars,
        is_official: found.official,
        name: found.name,
        is_automated: false,
        description: found.description,
    }
}
