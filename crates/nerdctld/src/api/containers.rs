//! `/containers`: list, inspect, and the plain changes of state.
//!
//! Making one is in [`create`], its files are in [`archive`], its stored output in [`logs`], its live streams in [`streams`],
//! what it uses in [`stats`], what it has changed in [`changes`], how one looks to a client is in [`view`].

pub(in crate::api) mod archive;
pub(in crate::api) mod changes;
pub(in crate::api) mod commit;
pub(in crate::api) mod create;
pub(in crate::api) mod logs;
pub(in crate::api) mod prune;
pub(in crate::api) mod stats;
pub(in crate::api) mod streams;
pub(in crate::api) mod update;
pub(in crate::api) mod view;

use std::sync::Arc;

use docker_wire::containers::{ContainerState, TopResponse, WaitError, WaitResponse};
use docker_wire::encode;
use docker_wire::filters::{self, Filters};
use engine::containers::list::Listed;
use engine::containers::remove::RemoveOptions;
use engine::containers::stop::StopOptions;
use engine::containers::wait::WaitOutcome;
use engine::containers::{ListFilter, NameMatcher, Phase};
use jiff::Timestamp;
use names::Signal;

use super::call::{Answer, Call, chain};
use super::compat::{requests, responses};
use super::error::{ApiError, Refusal};
use super::reply::Reply;

/// Longest body that a start may have: what is shorter than any JSON object (moby `container_routes.go`).
const START_BODY: u64 = 7;

/// States of health checks that a filter may name.
const HEALTH: &[&str] = &["none", "starting", "healthy", "unhealthy"];

/// `GET /containers/json`.
pub(in crate::api) async fn list(call: Call) -> Answer {
    let filter = list_filter(&call)?;
    let containers = call.engine.list_containers(&filter).await?;
    if call.query.flag("size") {
        return list_with_sizes(&call, &containers).await;
    }
    let (version, now) = (call.version, Timestamp::now());
    Ok(Reply::json_list(containers.into_iter().map(move |listed| {
        let mut summary = view::summary(&listed, now);
        responses::container_summary(version, &mut summary);
        summary
    })))
}

/// The expensive form: the snapshotter is asked about every container.
async fn list_with_sizes(call: &Call, containers: &[Listed]) -> Answer {
    let now = Timestamp::now();
    let mut summaries = Vec::with_capacity(containers.len());
    for listed in containers {
        let mut summary = view::summary(listed, now);
        // One that has gone meanwhile stays in this list, without sizes.
        if let Ok(size) = call.engine.container_size(listed.container.id.as_str()).await {
            summary.size_rw = i64::try_from(size.read_write).unwrap_or(i64::MAX);
            summary.size_root_fs = i64::try_from(size.root_fs).unwrap_or(i64::MAX);
        }
        responses::container_summary(call.version, &mut summary);
        summaries.push(summary);
    }
    Ok(Reply::json(&summaries))
}

fn list_filter(call: &Call) -> Result<ListFilter, Refusal> {
    let given = Filters::parse(call.query.text("filters"))?;
    given.accept_only(filters::CONTAINER_LIST)?;
    given.accept_values("status", "state", ContainerState::NAMES)?;
    given.accept_values("health", "health", HEALTH)?;
    let values = |key: &str| given.values(key).map(str::to_owned).collect::<Vec<_>>();
    let name = given.patterns("name");
    // Only swarms have tasks.
    let none = given.flag("is-task")? == Some(true);
    Ok(ListFilter {
        all: call.query.flag("all"),
        limit: if none { Some(0) } else { limit(call)? },
        ancestor: values("ancestor"),
        before: values("before"),
        since: values("since"),
        exited: exit_codes(&given)?,
        expose: parsed(&given, "expose")?,
        publish: parsed(&given, "publish")?,
        health: values("health"),
        id: values("id"),
        label: values("label"),
        name: (!name.is_empty()).then(|| {
            // As typed and as stored: `^/web$` and `^web$` both mean it (moby `daemon/list.go`).
            NameMatcher(Arc::new(move |bare| {
                name.matches(bare) || name.matches(&format!("/{bare}"))
            }))
        }),
        network: values("network"),
        status: given.values("status").filter_map(phase).collect(),
        volume: values("volume"),
    })
}

/// In the words of moby `daemon/list.go`, which shows Go's.
fn exit_codes(given: &Filters) -> Result<Vec<i64>, Refusal> {
    let parse = |value: &str| {
        let words = format!("strconv.Atoi: parsing {value:?}: invalid syntax");
        value
            .parse()
            .map_err(|_| Refusal::BadParameter(format!("invalid filter 'exited={value}': {words}")))
    };
    given.values("exited").map(parse).collect()
}

/// A limit of 0 or less is none.
fn limit(call: &Call) -> Result<Option<usize>, Refusal> {
    Ok(call
        .integer("limit")?
        .and_then(|limit| usize::try_from(limit).ok())
        .filter(|limit| *limit > 0))
}

fn parsed<T: std::str::FromStr>(given: &Filters, key: &'static str) -> Result<Vec<T>, Refusal> {
    let parse = |value: &str| {
        value.parse().map_err(|_| Refusal::BadParameter(format!("invalid filter '{key}={value}'")))
    };
    given.values(key).map(parse).collect()
}

fn phase(word: &str) -> Option<Phase> {
    let all = [
        Phase::Created,
        Phase::Running,
        Phase::Paused,
        Phase::Restarting,
        Phase::Removing,
        Phase::Exited,
        Phase::Dead,
    ];
    all.into_iter().find(|phase| phase.as_str() == word)
}

/// `GET /containers/{id}/json`.
pub(in crate::api) async fn inspect(call: Call) -> Answer {
    let details = call.engine.inspect_container(call.parameter("id")).await?;
    let mut container = view::inspect(&details, call.engine.host());
    let execs = call.engine.live_execs(&details.container);
    container.exec_ids =
        (!execs.is_empty()).then(|| execs.iter().map(ToString::to_string).collect());
    if call.query.flag("size") {
        let size = call.engine.container_size(&container.id).await?;
        container.size_rw = i64::try_from(size.read_write).ok();
        container.size_root_fs = i64::try_from(size.root_fs).ok();
    }
    responses::container_inspect(call.version, &mut container);
    Ok(Reply::json(&container))
}

/// `POST /containers/{id}/start`.
pub(in crate::api) async fn start(call: Call) -> Answer {
    if call.body.length().is_none_or(|length| length > START_BODY) {
        return Err(Refusal::StartWithBody.into());
    }
    if !call.query.text("checkpoint").is_empty() {
        let text = "checkpoint is only supported in experimental mode";
        return Err(Refusal::BadParameter(text.to_owned()).into());
    }
    call.engine.start_container(call.parameter("id")).await?;
    Ok(Reply::no_content())
}

/// `POST /containers/{id}/stop`.
pub(in crate::api) async fn stop(call: Call) -> Answer {
    let wrap = |container, source| engine::Error::CannotStop { container, source };
    let options = stop_options(&call, wrap)?;
    call.engine.stop_container(call.parameter("id"), &options).await?;
    Ok(Reply::no_content())
}

/// What stop and restart take; `wrap` puts a refused signal into the operation's words.
fn stop_options(
    call: &Call,
    wrap: impl Fn(String, Box<engine::Error>) -> engine::Error,
) -> Result<StopOptions, ApiError> {
    let signal = match requests::stop_signal(call.version, &call.query) {
        "" => None,
        text => Some(text.parse::<Signal>().map_err(|error| {
            let source = engine::Error::InvalidParameter(chain(&error));
            wrap(call.parameter("id").to_owned(), Box::new(source))
        })?),
    };
    Ok(StopOptions { timeout: call.integer("t")?, signal })
}

/// `POST /containers/{id}/restart`.
pub(in crate::api) async fn restart(call: Call) -> Answer {
    let wrap = |container, source| engine::Error::CannotRestart { container, source };
    let options = stop_options(&call, wrap)?;
    call.engine.restart_container(call.parameter("id"), &options).await?;
    Ok(Reply::no_content())
}

/// `POST /containers/{id}/kill`.
pub(in crate::api) async fn kill(call: Call) -> Answer {
    let signal = Some(call.query.text("signal")).filter(|signal| !signal.is_empty());
    call.engine.kill_container(call.parameter("id"), signal).await?;
    Ok(Reply::no_content())
}

/// `POST /containers/{id}/pause`.
pub(in crate::api) async fn pause(call: Call) -> Answer {
    call.engine.pause_container(call.parameter("id")).await?;
    Ok(Reply::no_content())
}

/// `POST /containers/{id}/unpause`.
pub(in crate::api) async fn unpause(call: Call) -> Answer {
    call.engine.unpause_container(call.parameter("id")).await?;
    Ok(Reply::no_content())
}

/// `POST /containers/{id}/rename`.
pub(in crate::api) async fn rename(call: Call) -> Answer {
    call.engine.rename_container(call.parameter("id"), call.query.text("name")).await?;
    Ok(Reply::no_content())
}

/// `GET /containers/{id}/top`.
pub(in crate::api) async fn top(call: Call) -> Answer {
    let table = call.engine.container_top(call.parameter("id"), call.query.text("ps_args")).await?;
    Ok(Reply::json(&TopResponse { processes: table.processes, titles: table.titles }))
}

/// `DELETE /containers/{id}`.
pub(in crate::api) async fn remove(call: Call) -> Answer {
    if call.query.flag("link") {
        call.engine.remove_link(call.parameter("id")).await?;
        return Ok(Reply::no_content());
    }
    let options = RemoveOptions { force: call.query.flag("force"), volumes: call.query.flag("v") };
    call.engine.remove_container(call.parameter("id"), &options).await?;
    Ok(Reply::no_content())
}

/// `POST /containers/{id}/wait`. The head tells the client that from now on no exit is missed; `docker run` starts its
/// container only then.
pub(in crate::api) async fn wait(call: Call) -> Answer {
    let style = requests::wait(call.version, &call.query)?;
    let waiter = call.engine.wait_container(call.parameter("id"), style.condition).await?;
    if !style.early_head {
        return Ok(Reply::json(&wait_view(waiter.outcome().await)));
    }
    let body = async move {
        let outcome = waiter.outcome().await;
        if style.mute_failure && outcome.error.is_some() {
            return Ok(bytes::Bytes::new());
        }
        Ok(encode::to_vec_line(&wait_view(outcome)).unwrap_or_default().into())
    };
    Ok(Reply::stream("application/json", futures_util::stream::once(body)))
}

fn wait_view(outcome: WaitOutcome) -> WaitResponse {
    WaitResponse {
        status_code: outcome.status_code,
        error: outcome.error.map(|message| WaitError { message }),
    }
}

#[cfg(test)]
mod tests {
    use names::PortSpec;

    use super::*;

    #[test]
    fn states_of_filters_are_phases() {
        for name in ContainerState::NAMES {
            assert_eq!(phase(name).map(Phase::as_str), Some(*name));
        }
        assert_eq!(phase("nonsense"), None);
    }

    #[test]
    fn filter_values_that_are_no_numbers_or_ports_are_named() {
        let given = Filters::parse(
            r#"{"exited":["1","x"],"publish":["80/tcp","8000-8010/udp"],"expose":["nope"]}"#,
        )
        .unwrap();
        assert_eq!(
            exit_codes(&given).unwrap_err().to_string(),
            "invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax"
        );
        assert_eq!(parsed::<PortSpec>(&given, "publish").unwrap().len(), 2);
        assert_eq!(
            parsed::<PortSpec>(&given, "expose").unwrap_err().to_string(),
            "invalid filter 'expose=nope'"
        );
    }
}
