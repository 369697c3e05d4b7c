//! `GET /distribution/{name}/json`: what a registry has under a name.

use docker_wire::distribution::{DistributionInspect, Platform};
use engine::images::RemotePlatform;
use names::ImageSelector;

use super::auth;
use super::call::{Answer, Call, chain};
use super::error::Refusal;
use super::images::view;
use super::reply::Reply;

/// `GET /distribution/{name}/json`.
pub(in crate::api) async fn inspect(call: Call) -> Answer {
    let bad = |text: String| Refusal::BadParameter(text);
    let name = call.parameter("name");
    let selector: ImageSelector =
        name.parse().map_err(|error: names::InvalidImageRef| bad(chain(&error)))?;
    let full_id = selector.full_id().is_some();
    let image = selector.reference().filter(|_| !full_id).cloned();
    let image = image.ok_or_else(|| bad("no manifest found for full image ID".to_owned()))?;
    let found = call.engine.remote_image(&image, &auth::from_header(&call)).await?;
    Ok(Reply::json(&DistributionInspect {
        descriptor: view::descriptor(found.descriptor),
        platforms: found.platforms.into_iter().map(platform).collect(),
    }))
}

fn platform(found: RemotePlatform) -> Platform {
    Platform {
        architecture: found.architecture,
        os: found.os,
        os_version: found.os_version,
        os_features: found.os_features,
        variant: found.variant,
    }
}
