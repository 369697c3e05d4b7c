//! THE TABLE: every endpoint of the Docker Engine API 1.24 to 1.55, in the order of Docker's reference.
//!
//! To add an endpoint, add a line; CONTRIBUTING.md has the runbook. The first line that matches wins, so fixed paths stand
//! before patterns. `.finishes()` marks what changes something: it goes on when its client leaves. All others end with
//! their client. `.formless()` marks what decodes its body whatever its type. `.timed()` is shown by the metrics. `.hijacks()` marks what may take the connection: a client that closes its side has not left it.

use std::pin::Pin;

use super::call::{Answer, Call};
use super::metrics::{self, Action};
use super::version::ApiVersion;
use super::{
    auth, containers, disk_usage, distribution, events, exec, images, networks, ready, system,
    unsupported, volumes,
};

type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Answer> + Send>>;

/// One endpoint.
#[derive(Debug)]
pub(in crate::api) struct Route {
    /// Method.
    pub(in crate::api) method: &'static str,
    /// Path; `{id}` is one segment, `{id*}` anything.
    pub(in crate::api) pattern: &'static str,
    /// What answers it.
    pub(in crate::api) handler: Handler,
    /// It goes on when its client leaves.
    pub(in crate::api) finishes: bool,
    /// It may take the connection for itself.
    pub(in crate::api) hijacks: bool,
    /// How long it takes is measured.
    pub(in crate::api) timed: Option<Action>,
    /// A form in the body of a POST is a second query; else the body is the handler's, whatever its type.
    pub(in crate::api) takes_form: bool,
    /// It answers even when there are too many connections.
    pub(in crate::api) vital: bool,
    /// First version that has it, where that is younger than the oldest served.
    pub(in crate::api) since: Option<ApiVersion>,
}

impl Route {
    const fn new(method: &'static str, pattern: &'static str, handler: Handler) -> Self {
        Self {
            method,
            pattern,
            handler,
            finishes: false,
            hijacks: false,
            timed: None,
            takes_form: true,
            vital: false,
            since: None,
        }
    }

    const fn finishes(mut self) -> Self {
        self.finishes = true;
        self
    }

    const fn hijacks(mut self) -> Self {
        self.hijacks = true;
        self
    }

    const fn timed(mut self, action: Action) -> Self {
        self.timed = Some(action);
        self
    }

    const fn formless(mut self) -> Self {
        self.takes_form = false;
        self
    }

    const fn vital(mut self) -> Self {
        self.vital = true;
        self
    }

    const fn since(mut self, major: u16, minor: u16) -> Self {
        self.since = Some(ApiVersion::new(major, minor));
        self
    }

    /// The pattern as Docker's reference writes it: `/containers/{id}/json`.
    pub(in crate::api) fn plain_pattern(&self) -> String {
        self.pattern.replace("*}", "}")
    }

    /// The pattern as moby's router writes it, which its version errors show: `/images/{name:.*}/attestations`.
    pub(in crate::api) fn moby_pattern(&self) -> String {
        self.pattern.replace("*}", ":.*}")
    }
}

const fn get(pattern: &'static str, handler: Handler) -> Route {
    Route::new("GET", pattern, handler)
}

const fn head(pattern: &'static str, handler: Handler) -> Route {
    Route::new("HEAD", pattern, handler)
}

const fn post(pattern: &'static str, handler: Handler) -> Route {
    Route::new("POST", pattern, handler)
}

const fn put(pattern: &'static str, handler: Handler) -> Route {
    Route::new("PUT", pattern, handler)
}

const fn delete(pattern: &'static str, handler: Handler) -> Route {
    Route::new("DELETE", pattern, handler)
}

/// Every endpoint.
#[rustfmt::skip] // one endpoint, one line
pub(in crate::api) static ROUTES: &[Route] = &[
    // System
    get   ("/_ping",                  |call| Box::pin(system::ping(call))).vital(),
    head  ("/_ping",                  |call| Box::pin(system::ping(call))).vital(),
    get   ("/version",                |call| Box::pin(system::version(call))).vital(),
    get   ("/info",                   |call| Box::pin(system::info(call))),
    get   ("/events",                 |call| Box::pin(events::follow(call))),
    post  ("/auth",                   |call| Box::pin(auth::check(call))).formless(),
    get   ("/system/df",              |call| Box::pin(disk_usage::usage(call))),
    Route::new("OPTIONS", "/{path*}", |call| Box::pin(unsupported::options(call))),

    // Containers
    get   ("/containers/json",                     |call| Box::pin(containers::list(call))),
    post  ("/containers/create",                   |call| Box::pin(containers::create::create(call))).finishes().timed(Action::Create),
    post  ("/containers/prune",                    |call| Box::pin(containers::prune::prune(call))).finishes().since(1, 25),
    get   ("/containers/{id*}/checkpoints",        |call| Box::pin(unsupported::checkpoint(call))),
    post  ("/containers/{id*}/checkpoints",        |call| Box::pin(unsupported::checkpoint(call))),
    delete("/containers/{id*}/checkpoints/{checkpoint}", |call| Box::pin(unsupported::checkpoint(call))),
    get   ("/containers/{id*}/json",               |call| Box::pin(containers::inspect(call))),
    get   ("/containers/{id*}/top",                |call| Box::pin(containers::top(call))),
    get   ("/containers/{id*}/logs",               |call| Box::pin(containers::logs::logs(call))),
    get   ("/containers/{id*}/changes",            |call| Box::pin(containers::changes::changes(call))).timed(Action::Changes),
    get   ("/containers/{id*}/export",             |call| Box::pin(containers::archive::export(call))),
    get   ("/containers/{id*}/stats",              |call| Box::pin(containers::stats::stats(call))),
    post  ("/containers/{id*}/resize",             |call| Box::pin(containers::streams::resize(call))).finishes(),
    post  ("/containers/{id*}/start",              |call| Box::pin(containers::start(call))).finishes().timed(Action::Start),
    post  ("/containers/{id*}/stop",               |call| Box::pin(containers::stop(call))).finishes(),
    post  ("/containers/{id*}/restart",            |call| Box::pin(containers::restart(call))).finishes(),
    post  ("/containers/{id*}/kill",               |call| Box::pin(containers::kill(call))).finishes(),
    post  ("/containers/{id*}/update",             |call| Box::pin(containers::update::update(call))).finishes(),
    post  ("/containers/{id*}/rename",             |call| Box::pin(containers::rename(call))).finishes(),
    post  ("/containers/{id*}/pause",              |call| Box::pin(containers::pause(call))).finishes(),
    post  ("/containers/{id*}/unpause",            |call| Box::pin(containers::unpause(call))).finishes(),
    get   ("/containers/{id*}/attach/ws",          |call| Box::pin(containers::streams::attach_websocket(call))).hijacks(),
    post  ("/containers/{id*}/attach",             |call| Box::pin(containers::streams::attach(call))).hijacks(),
    post  ("/containers/{id*}/wait",               |call| Box::pin(containers::wait(call))),
    post  ("/containers/{id*}/exec",               |call| Box::pin(exec::create(call))).finishes(),
    head  ("/containers/{id*}/archive",            |call| Box::pin(containers::archive::stat(call))),
    get   ("/containers/{id*}/archive",            |call| Box::pin(containers::archive::read(call))),
    put   ("/containers/{id*}/archive",            |call| Box::pin(containers::archive::write(call))).finishes(),
    delete("/containers/{id*}",                    |call| Box::pin(containers::remove(call))).finishes().timed(Action::Delete),
    post  ("/commit",                              |call| Box::pin(containers::commit::commit(call))).finishes().timed(Action::Commit),

    // Exec
    post  ("/exec/{id*}/start",       |call| Box::pin(exec::start(call))).finishes().hijacks(),
    post  ("/exec/{id*}/resize",      |call| Box::pin(exec::resize(call))).finishes(),
    get   ("/exec/{id*}/json",        |call| Box::pin(exec::inspect(call))),

    // Images
    get   ("/images/json",                 |call| Box::pin(images::list(call))),
    get   ("/images/search",               |call| Box::pin(images::search::search(call))),
    get   ("/images/get",                  |call| Box::pin(images::archive::get(call))),
    post  ("/images/create",               |call| Box::pin(images::transfer::create(call))),
    post  ("/images/load",                 |call| Box::pin(images::archive::load(call))),
    post  ("/images/prune",                |call| Box::pin(images::prune::prune(call))).finishes().since(1, 25),
    get   ("/images/{name*}/json",         |call| Box::pin(images::inspect(call))),
    get   ("/images/{name*}/history",      |call| Box::pin(images::history(call))),
    get   ("/images/{name*}/attestations", |call| Box::pin(images::attestations::list(call))).since(1, 55),
    get   ("/images/{name*}/get",          |call| Box::pin(images::archive::get_one(call))),
    post  ("/images/{name*}/push",         |call| Box::pin(images::push::push(call))),
    post  ("/images/{name*}/tag",          |call| Box::pin(images::tag(call))).finishes(),
    delete("/images/{name*}",              |call| Box::pin(images::remove(call))).finishes(),
    get   ("/distribution/{name*}/json",   |call| Box::pin(distribution::inspect(call))).since(1, 30),

    // Build
    post  ("/build",                  |call| Box::pin(unsupported::not_built(call))),
    post  ("/build/prune",            |call| Box::pin(unsupported::not_built(call))).since(1, 31),
    post  ("/build/cancel",           |call| Box::pin(unsupported::not_built(call))),
    post  ("/session",                |call| Box::pin(unsupported::not_built(call))),
    post  ("/grpc",                   |call| Box::pin(unsupported::not_built(call))),

    // Networks
    get   ("/networks",                  |call| Box::pin(networks::list(call))),
    get   ("/networks/",                 |call| Box::pin(networks::list(call))),
    post  ("/networks/create",           |call| Box::pin(unsupported::not_built(call))),
    post  ("/networks/prune",            |call| Box::pin(unsupported::not_built(call))).since(1, 25),
    post  ("/networks/{id*}/connect",    |call| Box::pin(unsupported::not_built(call))),
    post  ("/networks/{id*}/disconnect", |call| Box::pin(unsupported::not_built(call))),
    get   ("/networks/{id*}",            |call| Box::pin(networks::inspect(call))),
    delete("/networks/{id*}",            |call| Box::pin(unsupported::not_built(call))),

    // Volumes
    get   ("/volumes",                |call| Box::pin(volumes::list(call))),
    post  ("/volumes/create",         |call| Box::pin(volumes::create(call))).finishes(),
    post  ("/volumes/prune",          |call| Box::pin(volumes::prune(call))).finishes().since(1, 25),
    get   ("/volumes/{name*}",        |call| Box::pin(volumes::inspect(call))),
    put   ("/volumes/{name*}",        |call| Box::pin(unsupported::volume_update(call))).since(1, 42),
    delete("/volumes/{name*}",        |call| Box::pin(volumes::remove(call))).finishes(),

    // Plugins
    get   ("/plugins",                |call| Box::pin(unsupported::plugin_list(call))),
    get   ("/plugins/privileges",     |call| Box::pin(unsupported::plugin_install(call))),
    post  ("/plugins/pull",           |call| Box::pin(unsupported::plugin_install(call))),
    post  ("/plugins/create",         |call| Box::pin(unsupported::plugin_install(call))),
    get   ("/plugins/{name*}/json",   |call| Box::pin(unsupported::plugin(call))),
    post  ("/plugins/{name*}/enable", |call| Box::pin(unsupported::plugin(call))),
    post  ("/plugins/{name*}/disable",|call| Box::pin(unsupported::plugin(call))),
    post  ("/plugins/{name*}/upgrade",|call| Box::pin(unsupported::plugin(call))).since(1, 26),
    post  ("/plugins/{name*}/push",   |call| Box::pin(unsupported::plugin(call))),
    post  ("/plugins/{name*}/set",    |call| Box::pin(unsupported::plugin(call))),
    delete("/plugins/{name*}",        |call| Box::pin(unsupported::plugin(call))),

    // Swarm
    get   ("/swarm",                  |call| Box::pin(unsupported::swarm(call))),
    post  ("/swarm/init",             |call| Box::pin(unsupported::swarm_start(call))),
    post  ("/swarm/join",             |call| Box::pin(unsupported::swarm_start(call))),
    post  ("/swarm/leave",            |call| Box::pin(unsupported::swarm_leave(call))),
    post  ("/swarm/update",           |call| Box::pin(unsupported::swarm(call))),
    get   ("/swarm/unlockkey",        |call| Box::pin(unsupported::swarm(call))),
    post  ("/swarm/unlock",           |call| Box::pin(unsupported::swarm(call))),
    get   ("/nodes",                  |call| Box::pin(unsupported::swarm(call))),
    get   ("/nodes/{id}",             |call| Box::pin(unsupported::swarm(call))),
    delete("/nodes/{id}",             |call| Box::pin(unsupported::swarm(call))),
    post  ("/nodes/{id}/update",      |call| Box::pin(unsupported::swarm(call))),
    get   ("/services",               |call| Box::pin(unsupported::swarm(call))),
    post  ("/services/create",        |call| Box::pin(unsupported::swarm(call))),
    get   ("/services/{id}",          |call| Box::pin(unsupported::swarm(call))),
    delete("/services/{id}",          |call| Box::pin(unsupported::swarm(call))),
    post  ("/services/{id}/update",   |call| Box::pin(unsupported::swarm(call))),
    get   ("/services/{id}/logs",     |call| Box::pin(unsupported::swarm(call))),
    get   ("/tasks",                  |call| Box::pin(unsupported::swarm(call))),
    get   ("/tasks/{id}",             |call| Box::pin(unsupported::swarm(call))),
    get   ("/tasks/{id}/logs",        |call| Box::pin(unsupported::swarm(call))).since(1, 29),
    get   ("/secrets",                |call| Box::pin(unsupported::swarm(call))).since(1, 25),
    post  ("/secrets/create",         |call| Box::pin(unsupported::swarm(call))).since(1, 25),
    get   ("/secrets/{id}",           |call| Box::pin(unsupported::swarm(call))).since(1, 25),
    delete("/secrets/{id}",           |call| Box::pin(unsupported::swarm(call))).since(1, 25),
    post  ("/secrets/{id}/update",    |call| Box::pin(unsupported::swarm(call))).since(1, 25),
    get   ("/configs",                |call| Box::pin(unsupported::swarm(call))).since(1, 30),
    post  ("/configs/create",         |call| Box::pin(unsupported::swarm(call))).since(1, 30),
    get   ("/configs/{id}",           |call| Box::pin(unsupported::swarm(call))).since(1, 30),
    delete("/configs/{id}",           |call| Box::pin(unsupported::swarm(call))).since(1, 30),
    post  ("/configs/{id}/update",    |call| Box::pin(unsupported::swarm(call))).since(1, 30),
];

/// What Docker does not have.
pub(in crate::api) static OWN: &[Route] =
    &[Route::new("GET", "/readyz", |call| Box::pin(ready::ready(call))).vital()];

/// What is served on the address for metrics, and nothing else there.
pub(in crate::api) static METRICS: &[Route] =
    &[Route::new("GET", "/metrics", |call| Box::pin(metrics::metrics(call))).vital()];

#[cfg(test)]
mod tests;
