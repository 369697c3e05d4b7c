//! `POST /images/prune`.

use docker_wire::filters::{self, Filters};
use docker_wire::images::ImagePruneResponse;
use engine::images::ImagePruneFilter;
use jiff::Zoned;

use super::{bad_until, removed_item};
use crate::api::call::{Answer, Call};
use crate::api::error::Refusal;
use crate::api::reply::Reply;

/// `POST /images/prune`. Only images without a name, unless `dangling` is false.
pub(in crate::api) async fn prune(call: Call) -> Answer {
    let pruned = call.engine.prune_images(&filter(&call)?).await?;
    let deleted: Vec<_> = pruned.removed.into_iter().map(removed_item).collect();
    Ok(Reply::json(&ImagePruneResponse {
        images_deleted: (!deleted.is_empty()).then_some(deleted),
        space_reclaimed: pruned.reclaimed,
    }))
}

fn filter(call: &Call) -> Result<ImagePruneFilter, Refusal> {
    let given = Filters::parse(call.query.text("filters"))?;
    given.accept_only(filters::IMAGE_PRUNE)?;
    let values = |key: &str| given.values(key).map(str::to_owned).collect::<Vec<_>>();
    Ok(ImagePruneFilter {
        all: given.flag("dangling")? == Some(false),
        label: values("label"),
        label_not: values("label!"),
        until: given.until(&Zoned::now()).map_err(bad_until)?,
    })
}
