//! The part of a container's configuration that does not depend on the host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::absent::{Empty, is_default};
use crate::decode::string_or_list;

/// moby's `container.Config`.
///
/// Goes both ways: create takes it, it is kept, and inspect gives it back completed by the image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// The host name; the short id when empty.
    pub hostname: String,
    /// The domain name.
    pub domainname: String,
    /// `user[:group]`, each a name or a number.
    pub user: String,
    /// What the creator wants to attach; it steers the CLI, not the daemon.
    pub attach_stdin: bool,
    /// See [`attach_stdin`](Self::attach_stdin).
    pub attach_stdout: bool,
    /// See [`attach_stdin`](Self::attach_stdin).
    pub attach_stderr: bool,
    /// `80/tcp` and the like.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// Whether the process gets a terminal. Decides the framing of its output.
    pub tty: bool,
    /// Whether the process has a standard input at all.
    pub open_stdin: bool,
    /// Whether standard input closes after the first client that attached.
    pub stdin_once: bool,
    /// `NAME=value`.
    pub env: Option<Vec<String>>,
    /// The command, or arguments of the entry point. Older clients send one text.
    #[serde(deserialize_with = "string_or_list")]
    pub cmd: Option<Vec<String>>,
    /// How to find out whether the container is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Only for Windows.
    #[serde(skip_serializing_if = "is_default")]
    pub args_escaped: bool,
    /// The image as it was named.
    pub image: String,
    /// Paths for which anonymous volumes are made.
    pub volumes: Option<BTreeMap<String, Empty>>,
    /// Where the process starts.
    pub working_dir: String,
    /// What is run. Older clients send one text.
    #[serde(deserialize_with = "string_or_list")]
    pub entrypoint: Option<Vec<String>>,
    /// Whether the container has no network.
    #[serde(skip_serializing_if = "is_default")]
    pub network_disabled: bool,
    /// The MAC address on the first network; up to 1.51, later part of the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Instructions for builds on top of this image. The outer `None` leaves the key out; `Some(None)` is the
    /// `null` of versions up to 1.51.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Option<Vec<String>>>,
    /// Never null for containers; for images up to 1.49 `null` when there are none.
    pub labels: Option<BTreeMap<String, String>>,
    /// The signal that stops the container.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Seconds between that signal and `SIGKILL`; −1 waits forever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// For shell forms in builds on top of this image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
}

/// How to find out whether a container is well. Durations are in nanoseconds; 0 means the default.
///
/// Goes both ways, as part of [`ContainerConfig`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthConfig {
    /// `["NONE"]`, `["CMD", …]`, `["CMD-SHELL", "…"]`; empty inherits the image's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between checks.
    #[serde(skip_serializing_if = "is_default")]
    pub interval: i64,
    /// After which a check counts as failed.
    #[serde(skip_serializing_if = "is_default")]
    pub timeout: i64,
    /// After the start, failures do not count for so long.
    #[serde(skip_serializing_if = "is_default")]
    pub start_period: i64,
    /// Between checks within the start period.
    #[serde(skip_serializing_if = "is_default")]
    pub start_interval: i64,
    /// How many failures in a row make a container unhealthy.
    #[serde(skip_serializing_if = "is_default")]
    pub retries: i64,
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::decode;

    #[test]
    fn the_empty_configuration_has_nulls_where_docker_has_them() {
        let json = serde_json::to_string(&ContainerConfig::default()).unwrap();
        expect![[r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"Labels":null}"#]]
        .assert_eq(&json);
    }

    #[test]
    fn what_was_sent_comes_back() {
        let sent = r#"{"Hostname":"h","Domainname":"d","User":"u","AttachStdin":true,"AttachStdout":true,"AttachStderr":true,"ExposedPorts":{"80/tcp":{}},"Tty":true,"OpenStdin":true,"StdinOnce":true,"Env":["A=b"],"Cmd":[],"Healthcheck":{"Test":["CMD","x"],"Interval":1,"Timeout":2,"StartPeriod":3,"StartInterval":4,"Retries":5},"ArgsEscaped":true,"Image":"i","Volumes":{"/v":{}},"WorkingDir":"/w","Entrypoint":["e"],"NetworkDisabled":true,"MacAddress":"02:42:ac:11:00:02","OnBuild":["RUN x"],"Labels":{"k":"v"},"StopSignal":"SIGINT","StopTimeout":0,"Shell":["sh"]}"#;
        let config: ContainerConfig = decode::from_slice(sent.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&config).unwrap(), sent);
    }

    #[test]
    fn on_build_can_be_absent_null_or_a_list() {
        let shown = |on_build| {
            let config = ContainerConfig { on_build, ..ContainerConfig::default() };
            serde_json::to_value(config).unwrap().get("OnBuild").cloned()
        };
        assert_eq!(shown(None), None);
        assert_eq!(shown(Some(None)), Some(serde_json::Value::Null));
        assert_eq!(shown(Some(Some(vec![]))), Some(serde_json::json!([])));
    }

    #[test]
    fn commands_may_be_texts() {
        let config: ContainerConfig =
            decode::from_slice(br#"{"cmd":"ls","ENTRYPOINT":"sh"}"#).unwrap();
        assert_eq!(config.cmd, Some(vec!["ls".to_owned()]));
        assert_eq!(config.entrypoint, Some(vec!["sh".to_owned()]));
    }
}
