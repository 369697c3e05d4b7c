//! What this daemon does not do: each endpoint of Docker's has its refusal, in Docker's words where clients act on them.
//!
//! A daemon that never is in a swarm answers like dockerd outside of one (moby `daemon/cluster/errors.go`); there are no
//! Docker plugins; checkpoints are an experiment of dockerd's. Endpoints that are only not built yet say so by name.

use http::StatusCode;

use super::call::{Answer, Call};
use super::error::Refusal;
use super::reply::Reply;

/// Everything of the swarm, its nodes, services, tasks, secrets and configs.
pub(super) async fn swarm(_: Call) -> Answer {
    Err(Refusal::NoSwarmManager.into())
}

/// `POST /swarm/init`, `POST /swarm/join`.
pub(super) async fn swarm_start(_: Call) -> Answer {
    Err(Refusal::NoSwarm.into())
}

/// `POST /swarm/leave`.
pub(super) async fn swarm_leave(_: Call) -> Answer {
    Err(Refusal::NotInSwarm.into())
}

/// `PUT /volumes/{name}` is for cluster volumes only.
pub(super) async fn volume_update(_: Call) -> Answer {
    Err(Refusal::NoClusterVolumes.into())
}

/// `GET /plugins`: none.
pub(super) async fn plugin_list(_: Call) -> Answer {
    Ok(Reply::json::<[(); 0]>(&[]))
}

/// Everything about one plugin, which therefore does not exist. `docker inspect` asks here last and needs the 404.
pub(super) async fn plugin(call: Call) -> Answer {
    Err(Refusal::NoSuchPlugin(call.parameter("name").to_owned()).into())
}

/// Installing, pulling and making plugins.
pub(super) async fn plugin_install(_: Call) -> Answer {
    Err(Refusal::NoPlugins.into())
}

/// Checkpoints.
pub(super) async fn checkpoint(_: Call) -> Answer {
    Err(Refusal::NotExperimental.into())
}

/// An endpoint that is not built yet.
pub(super) async fn not_built(call: Call) -> Answer {
    Err(Refusal::NotBuilt { method: call.route.method, route: call.route.plain_pattern() }.into())
}

/// `OPTIONS` on any path (moby `daemon/server/router/system/system_routes.go`).
pub(super) async fn options(_: Call) -> Answer {
    Ok(Reply::empty(StatusCode::OK))
}
