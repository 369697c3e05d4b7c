//! Execs: processes added to a running container.
//!
//! Source: moby `api/types/container/exec.go`, `exec_create_request.go`, `exec_start_request.go`. The answer of
//! create is an [`IdResponse`](crate::error::IdResponse).

use serde::{Deserialize, Serialize};

/// The body of `POST /containers/{id}/exec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecCreateRequest {
    /// Empty for the container's.
    pub user: String,
    /// Whether it may do nearly everything.
    pub privileged: bool,
    /// Whether the process gets a terminal.
    pub tty: bool,
    /// Height and width of the terminal at the start; from 1.42 on.
    pub console_size: Option<[u64; 2]>,
    /// Whether its standard input will be connected.
    pub attach_stdin: bool,
    /// Whether its standard error will be connected.
    pub attach_stderr: bool,
    /// Whether its standard output will be connected.
    pub attach_stdout: bool,
    /// `ctrl-p,ctrl-q`.
    pub detach_keys: String,
    /// `NAME=value`, beyond the container's.
    pub env: Vec<String>,
    /// Empty for the container's.
    pub working_dir: String,
    /// Program and arguments.
    #[serde(deserialize_with = "crate::decode::string_or_list")]
    pub cmd: Option<Vec<String>>,
}

/// The body of `POST /exec/{id}/start`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecStartRequest {
    /// Whether to answer as soon as it runs.
    pub detach: bool,
    /// Decides the framing of the output; clients should send what they sent at create.
    pub tty: bool,
    /// Height and width of the terminal at the start; from 1.42 on.
    pub console_size: Option<[u64; 2]>,
}

/// The answer of `GET /exec/{id}/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExecInspect {
    /// 64 hex digits.
    #[serde(rename = "ID")]
    pub id: String,
    /// Whether its process runs.
    pub running: bool,
    /// `null` until it ended.
    pub exit_code: Option<i64>,
    /// What it runs.
    pub process_config: ExecProcessConfig,
    /// Whether its standard input is connected.
    pub open_stdin: bool,
    /// Whether its standard error is connected.
    pub open_stderr: bool,
    /// Whether its standard output is connected.
    pub open_stdout: bool,
    /// Whether it is about to be forgotten.
    pub can_remove: bool,
    /// 64 hex digits.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// The bytes in base64; empty when unset.
    pub detach_keys: String,
    /// On the host; 0 before it runs.
    pub pid: u32,
}

/// What an exec runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExecProcessConfig {
    /// Whether it has a terminal.
    pub tty: bool,
    /// The program.
    pub entrypoint: String,
    /// Its arguments; never null.
    pub arguments: Vec<String>,
    /// Whether it may do nearly everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// Absent for the container's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;

    #[test]
    fn a_running_exec_has_no_exit_code() {
        let inspect = ExecInspect {
            id: "ab".to_owned(),
            running: true,
            process_config: ExecProcessConfig {
                entrypoint: "ls".to_owned(),
                ..ExecProcessConfig::default()
            },
            ..ExecInspect::default()
        };
        assert_eq!(
            serde_json::to_string(&inspect).unwrap(),
            r#"{"ID":"ab","Running":true,"ExitCode":null,"ProcessConfig":{"tty":false,"entrypoint":"ls","arguments":[]},"OpenStdin":false,"OpenStderr":false,"OpenStdout":false,"CanRemove":false,"ContainerID":"","DetachKeys":"","Pid":0}"#
        );
    }

    #[test]
    fn requests() {
        let create: ExecCreateRequest = decode::from_slice(
            br#"{"cmd":["ls"],"AttachStdout":true,"ConsoleSize":[24,80],"Env":null}"#,
        )
        .unwrap();
        assert_eq!(
            (create.cmd, create.console_size),
            (Some(vec!["ls".to_owned()]), Some([24, 80]))
        );
        let start: ExecStartRequest =
            decode::from_slice(br#"{"Detach":false,"Tty":true}"#).unwrap();
        assert!(start.tty && !start.detach);
    }
}
