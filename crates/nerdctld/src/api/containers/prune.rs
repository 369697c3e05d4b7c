//! Removing what does not run, and has not for long enough.

use docker_wire::containers::ContainerPruneResponse;
use docker_wire::filters::{self, Filters};
use jiff::Zoned;

use crate::api::call::{Answer, Call};
use crate::api::error::Refusal;
use crate::api::reply::Reply;

/// `POST /containers/prune`.
pub(in crate::api) async fn prune(call: Call) -> Answer {
    let given = Filters::parse(call.query.text("filters")).map_err(Refusal::from)?;
    given.accept_only(filters::CONTAINER_PRUNE).map_err(Refusal::from)?;
    let until = given.until(&Zoned::now()).map_err(Refusal::from)?;
    let pruned = call
        .engine
        .prune_containers(move |container| {
            until.is_none_or(|until| container.created <= until)
                && given.matches_labels(&container.labels)
        })
        .await?;
    let ids: Vec<String> = pruned.containers.iter().map(ToString::to_string).collect();
    Ok(Reply::json(&ContainerPruneResponse {
        containers_deleted: (!ids.is_empty()).then_some(ids),
        space_reclaimed: pruned.reclaimed,
    }))
}
