//! `/exec` and `/containers/{id}/exec`: processes added to a running container.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use docker_wire::decode;
use docker_wire::error::IdResponse;
use docker_wire::exec::{ExecCreateRequest, ExecInspect, ExecProcessConfig, ExecStartRequest};
use engine::containers::exec::{ExecDetails, ExecOptions, ExecStart};
use http::StatusCode;
use serde::de::DeserializeOwned;

use super::call::{Answer, Call, bad_json};
use super::compat::requests;
use super::containers::streams::{encoder, hijack_head, size};
use super::error::{ApiError, Refusal};
use super::reply::Reply;
use crate::connection::Hijack;

/// `POST /containers/{id}/exec`.
pub(in crate::api) async fn create(call: Call) -> Answer {
    let request: ExecCreateRequest = body(&call).await?;
    let console_size = requests::exec_console_size(call.version, request.console_size);
    let options = ExecOptions {
        user: request.user,
        privileged: request.privileged,
        tty: request.tty,
        console_size: terminal_size(console_size)?,
        attach_stdin: request.attach_stdin,
        attach_stdout: request.attach_stdout,
        attach_stderr: request.attach_stderr,
        detach_keys: request.detach_keys,
        env: request.env,
        working_dir: request.working_dir,
        cmd: request.cmd.unwrap_or_default(),
    };
    let id = call.engine.create_exec(call.parameter("id"), options).await?;
    Ok(Reply::created(&IdResponse { id: id.to_string() }))
}

/// `POST /exec/{id}/start`. What is wrong with the exec itself is told before the head, as JSON; whether it can be
/// started, only behind it.
pub(in crate::api) async fn start(call: Call) -> Answer {
    let request: ExecStartRequest = body(&call).await?;
    let raw = request.tty;
    // moby `daemon/server/router/container/exec.go`: no console without a terminal.
    let console_size =
        requests::exec_console_size(call.version, request.console_size).filter(|_| raw);
    let start = ExecStart { console_size: terminal_size(console_size)?, raw };
    let id = call.parameter("id");
    if request.detach {
        call.engine.start_exec(id, start).await?;
        return Ok(Reply::empty(StatusCode::OK));
    }
    let session = call.engine.exec_session(id, start).await?;
    let run = move |client| session.run(client, encoder(raw));
    Ok(Reply::hijack(Hijack::new(hijack_head(&call, raw), run).with_ordinary_headers()))
}

/// `POST /exec/{id}/resize`.
pub(in crate::api) async fn resize(call: Call) -> Answer {
    let (height, width) = (size(&call, "height", "h")?, size(&call, "width", "w")?);
    call.engine.resize_exec(call.parameter("id"), height, width).await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// `GET /exec/{id}/json`.
pub(in crate::api) async fn inspect(call: Call) -> Answer {
    let details = call.engine.inspect_exec(call.parameter("id")).await?;
    Ok(Reply::json(&view(details)))
}

/// The request; nothing at all is one without wishes.
async fn body<T: DeserializeOwned + Default>(call: &Call) -> Result<T, ApiError> {
    Ok(match call.json_value().await? {
        Some(value) => decode::from_value(&value).map_err(bad_json)?,
        None => T::default(),
    })
}

/// Zeros are no size.
fn terminal_size(given: Option<[u64; 2]>) -> Result<Option<(u16, u16)>, Refusal> {
    let Some([height, width]) = given.filter(|size| *size != [0, 0]) else { return Ok(None) };
    match (u16::try_from(height), u16::try_from(width)) {
        (Ok(height), Ok(width)) => Ok(Some((height, width))),
        _ => {
            let text = format!("invalid ConsoleSize [{height} {width}]: at most 65535");
            Err(Refusal::BadParameter(text))
        }
    }
}

fn view(exec: ExecDetails) -> ExecInspect {
    let options = exec.options;
    let mut words = options.cmd.into_iter();
    ExecInspect {
        id: exec.id.to_string(),
        running: exec.running,
        exit_code: exec.exit_code.map(i64::from),
        process_config: ExecProcessConfig {
            tty: options.tty,
            entrypoint: words.next().unwrap_or_default(),
            arguments: words.collect(),
            privileged: Some(options.privileged),
            user: options.user,
        },
        open_stdin: options.attach_stdin,
        open_stderr: options.attach_stderr,
        open_stdout: options.attach_stdout,
        can_remove: exec.can_remove,
        container_id: exec.container.to_string(),
        detach_keys: BASE64_STANDARD.encode(exec.detach_keys),
        pid: exec.pid,
    }
}

#[cfg(test)]
mod tests {
    use names::{ContainerId, ExecId};

    use super::*;

    #[test]
    fn sizes_fit_a_terminal() {
        assert_eq!(terminal_size(None).unwrap(), None);
        assert_eq!(terminal_size(Some([0, 0])).unwrap(), None);
        assert_eq!(terminal_size(Some([24, 80])).unwrap(), Some((24, 80)));
        assert!(terminal_size(Some([24, 65_536])).is_err());
    }

    #[test]
    fn what_is_shown() {
        let shown = view(ExecDetails {
            id: ExecId::from_random([1; 32]),
            container: ContainerId::from_random([2; 32]),
            options: ExecOptions {
                cmd: vec!["sh".into(), "-c".into(), "ls".into()],
                attach_stdout: true,
                ..ExecOptions::default()
            },
            detach_keys: vec![1, 2],
            running: false,
            pid: 7,
            exit_code: Some(3),
            can_remove: false,
        });
        assert_eq!(shown.process_config.entrypoint, "sh");
        assert_eq!(shown.process_config.arguments, ["-c", "ls"]);
        assert_eq!((shown.exit_code, shown.pid, shown.open_stdout), (Some(3), 7, true));
        assert_eq!(shown.detach_keys, "AQI=");
    }
}
