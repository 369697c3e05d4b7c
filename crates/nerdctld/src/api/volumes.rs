//! `/volumes`: list, inspect, create, remove, prune.

use std::sync::Arc;

use docker_wire::decode;
use docker_wire::filters::{self, Filters};
use docker_wire::time;
use docker_wire::volumes::{Volume, VolumeCreateRequest, VolumeListResponse, VolumePruneResponse};
use engine::containers::NameMatcher;
use engine::volumes as domain;
use engine::volumes::create::VolumeSpec;
use engine::volumes::list::{LabelMatcher, VolumeFilter};
use nerdctl_store::labels::is_reserved_key;
use nerdctl_store::volumes::DOCKER_ANONYMOUS;

use super::call::{Answer, Call, bad_json};
use super::compat::requests;
use super::error::Refusal;
use super::reply::Reply;

/// `GET /volumes`.
pub(in crate::api) async fn list(call: Call) -> Answer {
    let given = filters(&call, filters::VOLUME_LIST)?;
    let volumes = call.engine.list_volumes(&filter(&given)?).await?;
    let volumes = volumes.into_iter().map(view).collect();
    Ok(Reply::json(&VolumeListResponse { volumes, warnings: None }))
}

/// `GET /volumes/{name}`.
pub(in crate::api) async fn inspect(call: Call) -> Answer {
    let volume = call.engine.inspect_volume(call.parameter("name")).await?;
    Ok(Reply::json(&view(volume)))
}

/// `POST /volumes/create`. Nothing at all asks for an anonymous volume.
pub(in crate::api) async fn create(call: Call) -> Answer {
    let request: VolumeCreateRequest = match call.json_value().await? {
        Some(body) => decode::from_value(&body).map_err(bad_json)?,
        None => VolumeCreateRequest::default(),
    };
    if request.cluster_volume_spec.is_some() && requests::has_cluster_volumes(call.version) {
        return Err(Refusal::NoSwarmManager.into());
    }
    if let Some(key) =
        request.labels.iter().flatten().map(|(key, _)| key).find(|key| is_reserved_key(key))
    {
        let text = format!(
            "invalid label {key:?}: its prefix is reserved for containerd, Kubernetes and nerdctl"
        );
        return Err(Refusal::BadParameter(text).into());
    }
    let spec = VolumeSpec {
        name: request.name,
        driver: request.driver,
        options: request.driver_opts.unwrap_or_default(),
        labels: request.labels,
    };
    Ok(Reply::created(&view(call.engine.create_volume(spec).await?)))
}

/// `DELETE /volumes/{name}`.
pub(in crate::api) async fn remove(call: Call) -> Answer {
    call.engine.remove_volume(call.parameter("name"), call.query.flag("force")).await?;
    Ok(Reply::no_content())
}

/// `POST /volumes/prune`.
pub(in crate::api) async fn prune(call: Call) -> Answer {
    let mut given = filters(&call, filters::VOLUME_PRUNE)?;
    requests::volume_prune(call.version, &mut given);
    if !wants_all(&given)? {
        given.insert("label", DOCKER_ANONYMOUS);
    }
    let pruned = call.engine.prune_volumes(&filter(&given)?).await?;
    Ok(Reply::json(&VolumePruneResponse {
        volumes_deleted: pruned.volumes,
        space_reclaimed: pruned.reclaimed,
    }))
}

fn filters(call: &Call, known: &[&str]) -> Result<Filters, Refusal> {
    let given = Filters::parse(call.query.text("filters"))?;
    given.accept_only(known)?;
    Ok(given)
}

/// moby `daemon/volume/service/convert.go`, `withPrune`.
fn wants_all(given: &Filters) -> Result<bool, Refusal> {
    let values: Vec<&str> = given.values("all").collect();
    match values[..] {
        [] => Ok(false),
        // Go's `strconv.ParseBool`.
        ["1" | "t" | "T" | "true" | "TRUE" | "True"] => Ok(true),
        ["0" | "f" | "F" | "false" | "FALSE" | "False"] => Ok(false),
        [other] => Err(Refusal::BadParameter(format!(
            "invalid filter 'all': strconv.ParseBool: parsing {other:?}: invalid syntax"
        ))),
        _ => Err(Refusal::BadParameter(format!(
            "invalid filter 'all=[{}]': only one value is expected",
            values.join(" ")
        ))),
    }
}

fn filter(given: &Filters) -> Result<VolumeFilter, Refusal> {
    let name = given.patterns("name");
    let has_labels = given.contains("label") || given.contains("label!");
    let labels = given.clone();
    Ok(VolumeFilter {
        dangling: given.flag("dangling")?,
        drivers: given.values("driver").map(str::to_owned).collect(),
        name: (!name.is_empty()).then(|| NameMatcher(Arc::new(move |bare| name.matches(bare)))),
        labels: has_labels
            .then(|| LabelMatcher(Arc::new(move |found| labels.matches_labels(found)))),
    })
}

pub(in crate::api) fn view(volume: domain::Volume) -> Volume {
    Volume {
        created_at: time::rfc3339(volume.created),
        driver: domain::Volume::DRIVER.to_owned(),
        labels: volume.labels,
        mountpoint: volume.mountpoint,
        name: volume.name,
        options: None,
        scope: "local".to_owned(),
        ..Volume::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(json: &str) -> Result<bool, String> {
        wants_all(&Filters::parse(json).unwrap()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn prune_takes_anonymous_volumes_unless_told_otherwise() {
        assert_eq!(all("{}"), Ok(false));
        assert_eq!(all(r#"{"all":["true"]}"#), Ok(true));
        assert_eq!(all(r#"{"all":["0"]}"#), Ok(false));
        assert_eq!(
            all(r#"{"all":["x"]}"#).unwrap_err(),
            "invalid filter 'all': strconv.ParseBool: parsing \"x\": invalid syntax"
        );
        assert_eq!(
            all(r#"{"all":["0","1"]}"#).unwrap_err(),
            "invalid filter 'all=[0 1]': only one value is expected"
        );
    }
}
