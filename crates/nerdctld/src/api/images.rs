//! `/images`: list, inspect, history, tag, remove. Pulling is in [`transfer`], pushing in [`push`], saving and loading in
//! [`archive`], how an image looks to a client in [`view`].

pub(in crate::api) mod archive;
pub(in crate::api) mod attestations;
pub(in crate::api) mod import;
pub(in crate::api) mod prune;
pub(in crate::api) mod push;
pub(in crate::api) mod search;
pub(in crate::api) mod transfer;
pub(in crate::api) mod view;

use docker_wire::decode;
use docker_wire::distribution;
use docker_wire::filters::{self, Filters, InvalidFilter};
use docker_wire::images::{ImageDeleteItem, ImageHistoryItem};
use engine::images::{HistoryStep, ImageFilter, Removed};
use jiff::Zoned;
use names::Platform;

use super::call::{Answer, Call, chain};
use super::compat::{requests, responses};
use super::containers::commit::repo_and_tag;
use super::error::Refusal;
use super::reply::Reply;

/// `GET /images/json`.
pub(in crate::api) async fn list(call: Call) -> Answer {
    let extras = requests::image_list(call.version, &call.query)?;
    let filter = ImageFilter {
        shared_size: extras.shared_size,
        manifests: extras.manifests,
        ..list_filter(&call)?
    };
    let images = call.engine.list_images(&filter).await?;
    let mut images: Vec<_> = images.into_iter().map(view::summary).collect();
    responses::image_list(call.version, &mut images);
    Ok(Reply::json(&images))
}

fn list_filter(call: &Call) -> Result<ImageFilter, Refusal> {
    let mut given = Filters::parse(call.query.text("filters"))?;
    let pattern = requests::image_list_pattern(call.version, &call.query);
    if !pattern.is_empty() && !given.contains("reference") {
        given.insert("reference", pattern);
    }
    given.accept_only(filters::IMAGE_LIST)?;
    let values = |key: &str| given.values(key).map(str::to_owned).collect::<Vec<_>>();
    Ok(ImageFilter {
        dangling: given.flag("dangling")?,
        label: values("label"),
        label_not: values("label!"),
        reference: values("reference"),
        before: values("before"),
        since: values("since"),
        until: given.until(&Zoned::now()).map_err(bad_until)?,
        all: call.query.flag("all"),
        ..ImageFilter::default()
    })
}

fn bad_until(error: InvalidFilter) -> Refusal {
    match error {
        InvalidFilter::Until(error) => {
            let reason = chain(&error);
            Refusal::BadParameter(format!("invalid value for 'until' filter: {reason}"))
        }
        other => other.into(),
    }
}

/// `GET /images/{name}/json`.
pub(in crate::api) async fn inspect(call: Call) -> Answer {
    let (manifests, platform) = requests::image_inspect(call.version, &call.query)?;
    let platform = Some(platform).filter(|text| !text.is_empty()).map(json_platform).transpose()?;
    let name = call.parameter("name");
    let details = call.engine.inspect_image(name, platform.as_ref(), manifests).await?;
    let mut image = view::inspect(details);
    responses::image_inspect(call.version, &mut image);
    Ok(Reply::json(&image))
}

/// `GET /images/{name}/history`.
pub(in crate::api) async fn history(call: Call) -> Answer {
    let platform = requests::image_history_platform(call.version, &call.query);
    let platform = Some(platform).filter(|text| !text.is_empty()).map(json_platform).transpose()?;
    let steps = call.engine.image_history(call.parameter("name"), platform.as_ref()).await?;
    Ok(Reply::json(&steps.into_iter().map(history_item).collect::<Vec<_>>()))
}

fn history_item(step: HistoryStep) -> ImageHistoryItem {
    ImageHistoryItem {
        comment: step.comment,
        created: step.created.map_or(0, |created| created.as_second()),
        created_by: step.created_by,
        id: if step.id.is_empty() { "<missing>".to_owned() } else { step.id },
        size: i64::try_from(step.size).unwrap_or(i64::MAX),
        tags: (!step.tags.is_empty()).then_some(step.tags),
    }
}

/// `POST /images/{name}/tag`.
pub(in crate::api) async fn tag(call: Call) -> Answer {
    let (repo, tag) = (call.query.text("repo"), call.query.text("tag"));
    let name = repo_and_tag(repo, tag)?
        .ok_or_else(|| Refusal::BadParameter("refusing to create an empty tag".to_owned()))?;
    call.engine.tag_image(call.parameter("name"), &name).await?;
    Ok(Reply::empty(http::StatusCode::CREATED))
}

/// A platform as JSON (moby `daemon/server/httputils/form.go`, `DecodePlatform`).
fn json_platform(text: &str) -> Result<Platform, Refusal> {
    let bad = |text: &str| Refusal::BadParameter(text.to_owned());
    let given: distribution::Platform = decode::from_slice(text.as_bytes()).map_err(|error| {
        Refusal::BadParameter(format!("failed to parse platform: {}", chain(&error)))
    })?;
    let optional =
        !given.variant.is_empty() || !given.os_version.is_empty() || !given.os_features.is_empty();
    match (given.os.is_empty(), given.architecture.is_empty()) {
        (false, false) => Ok(Platform::new(&given.os, &given.architecture, &given.variant)),
        (true, true) if optional => {
            Err(bad("optional platform fields provided, but OS and Architecture are missing"))
        }
        _ => Err(bad("both OS and Architecture must be provided")),
    }
}

/// `DELETE /images/{name}`.
pub(in crate::api) async fn remove(call: Call) -> Answer {
    let name = call.parameter("name");
    if name.trim().is_empty() {
        return Err(Refusal::BadParameter("image name cannot be blank".to_owned()).into());
    }
    let platforms = requests::image_remove_platforms(call.version, &call.query);
    let platforms: Result<Vec<Platform>, _> = platforms.into_iter().map(json_platform).collect();
    let (platforms, force) = (platforms?, call.query.flag("force"));
    let removed = match &platforms[..] {
        [] => call.engine.remove_image(name, force).await?,
        _ => Box::pin(call.engine.remove_image_platforms(name, &platforms, force)).await?,
    };
    Ok(Reply::json(&removed.into_iter().map(removed_item).collect::<Vec<_>>()))
}

fn removed_item(removed: Removed) -> ImageDeleteItem {
    match removed {
        Removed::Untagged(untagged) => ImageDeleteItem { untagged, ..ImageDeleteItem::default() },
        Removed::Deleted(deleted) => ImageDeleteItem { deleted, ..ImageDeleteItem::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_as_json() {
        let text = |json: &str| {
            json_platform(json)
                .map(|platform| platform.to_string())
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            text(r#"{"os":"linux","architecture":"arm64","variant":"v8"}"#).unwrap(),
            "linux/arm64"
        );
        assert_eq!(
            text(r#"{"os":"linux","architecture":"arm","variant":"v6"}"#).unwrap(),
            "linux/arm/v6"
        );
        assert_eq!(
            text(r#"{"os":"linux"}"#).unwrap_err(),
            "both OS and Architecture must be provided"
        );
        assert!(text(r#"{"variant":"v8"}"#).unwrap_err().starts_with("optional platform fields"));
        assert!(text("linux/amd64").unwrap_err().starts_with("failed to parse platform"));
    }
}
