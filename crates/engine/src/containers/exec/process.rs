//! The OCI process of an exec: the container's own, with what was asked for put over it. Pure.
//!
//! The container's spec may be anybody's and of any version, so it is changed as JSON: what is not known here
//! (scheduler, umask, limits, profiles) stays as it is (moby `daemon/exec.go`, `ContainerExecStart`).

use oci_spec::runtime::Capabilities;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::ExecOptions;
use crate::oci;

/// What Docker gives programs on a terminal (moby `daemon/container/container.go`, `CreateDaemonEnvironment`).
const TERM: &str = "TERM=xterm";

/// Only the process of a spec; the rest is skipped without being kept.
#[derive(Debug, Deserialize)]
pub(super) struct Spec {
    process: Map<String, Value>,
}

impl Spec {
    /// # Errors
    /// Of serde: not JSON, or a spec without a process.
    pub(super) fn parse(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }

    /// The groups beside the first that the container's process is in.
    pub(super) fn groups(&self) -> Vec<u32> {
        let groups = self.process.get("user").and_then(|user| user.get("additionalGids"));
        let groups = groups.and_then(Value::as_array).into_iter().flatten();
        groups.filter_map(|group| u32::try_from(group.as_u64()?).ok()).collect()
    }

    /// The process that `options` ask for. `user` is what its user was found to be, `None` for the container's;
    /// `container_tty` says that the container's first process has a terminal; `all` are the capabilities of a privileged
    /// process.
    pub(super) fn into_process(
        self,
        options: &ExecOptions,
        user: Option<Value>,
        container_tty: bool,
        all: &Capabilities,
    ) -> Map<String, Value> {
        let mut process = self.process;
        let env = env(process.get("env"), options, container_tty);
        process.insert("args".into(), json!(options.cmd));
        process.insert("env".into(), json!(env));
        process.insert("terminal".into(), json!(options.tty));
        if !options.working_dir.is_empty() {
            process.insert("cwd".into(), json!(options.working_dir));
        }
        if !options.tty {
            process.remove("consoleSize");
        }
        if let Some(Value::Object(mut user)) = user {
            let umask = process.get("user").and_then(|user| user.get("umask")).cloned();
            user.extend(umask.map(|umask| ("umask".to_owned(), umask)));
            process.insert("user".into(), Value::Object(user));
        }
        if options.privileged {
            // Neither inheritable nor ambient, as in a privileged container.
            process.insert(
                "capabilities".into(),
                json!({ "bounding": all, "effective": all, "permitted": all }),
            );
        }
        process
    }
}

/// Give a terminal its first size.
pub(super) fn set_console_size(process: &mut Map<String, Value>, (height, width): (u16, u16)) {
    process.insert("consoleSize".into(), json!({ "height": height, "width": width }));
}

/// The container's variables without its terminal's, then the exec's.
fn env(configured: Option<&Value>, options: &ExecOptions, container_tty: bool) -> Vec<String> {
    let configured = configured.and_then(Value::as_array).into_iter().flatten();
    let mut env: Vec<String> = configured.filter_map(Value::as_str).map(str::to_owned).collect();
    if container_tty && !options.tty {
        env.retain(|entry| entry != TERM);
    }
    if options.tty && !env.iter().any(|entry| oci::env_key(entry) == oci::env_key(TERM)) {
        env.push(TERM.to_owned());
    }
    oci::override_env(&mut env, &options.env);
    env
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Capability;

    use super::*;

    fn all() -> Capabilities {
        Capabilities::from([Capability::SysAdmin])
    }

    const SPEC: &str = r#"{"ociVersion":"1.0.2","process":{"terminal":true,"consoleSize":{"height":1,"width":2},
        "user":{"uid":5,"gid":6,"umask":18,"additionalGids":[6,7]},"args":["sh"],"env":["PATH=/bin","TERM=xterm","A=1"],
        "cwd":"/srv","capabilities":{"bounding":["CAP_CHOWN"]},"noNewPrivileges":true,"apparmorProfile":"p",
        "rlimits":[{"type":"RLIMIT_NOFILE","hard":9,"soft":8}],"oomScoreAdj":100,"ioPriority":{"class":"x"}},
        "linux":{"seccomp":{"defaultAction":"SCMP_ACT_ERRNO"}}}"#;

    fn process(options: &ExecOptions, user: Option<Value>) -> Value {
        let spec = Spec::parse(SPEC.as_bytes()).unwrap();
        Value::Object(spec.into_process(options, user, true, &all()))
    }

    fn options() -> ExecOptions {
        ExecOptions { cmd: vec!["ls".into(), "-l".into()], ..ExecOptions::default() }
    }

    #[test]
    fn all_that_was_not_asked_for_is_the_containers() {
        assert_eq!(
            process(&options(), None),
            json!({
                "terminal": false,
                "user": {"uid": 5, "gid": 6, "umask": 18, "additionalGids": [6, 7]},
                "args": ["ls", "-l"],
                "env": ["PATH=/bin", "A=1"],
                "cwd": "/srv",
                "capabilities": {"bounding": ["CAP_CHOWN"]},
                "noNewPrivileges": true,
                "apparmorProfile": "p",
                "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 9, "soft": 8}],
                "oomScoreAdj": 100,
                "ioPriority": {"class": "x"},
            })
        );
        assert_eq!(Spec::parse(SPEC.as_bytes()).unwrap().groups(), [6, 7]);
    }

    #[test]
    fn all_that_was_asked_for() {
        let options = ExecOptions {
            tty: true,
            privileged: true,
            working_dir: "/tmp".into(),
            env: vec!["A=2".into(), "PATH".into(), "B=".into()],
            ..options()
        };
        let mut process = process(&options, Some(json!({"uid": 1, "gid": 2})));
        set_console_size(process.as_object_mut().unwrap(), (24, 80));
        assert_eq!(process["terminal"], true);
        assert_eq!(process["consoleSize"], json!({"height": 24, "width": 80}));
        assert_eq!(process["user"], json!({"uid": 1, "gid": 2, "umask": 18}));
        assert_eq!(process["env"], json!(["TERM=xterm", "A=2", "B="]));
        assert_eq!(process["cwd"], "/tmp");
        let all = json!(["CAP_SYS_ADMIN"]);
        let sets = json!({"bounding": all, "effective": all, "permitted": all});
        assert_eq!(process["capabilities"], sets);
        assert_eq!(process["noNewPrivileges"], true);
    }

    #[test]
    fn a_terminal_brings_its_variable() {
        let spec = Spec::parse(br#"{"process":{"env":["A=1"],"cwd":"/"}}"#).unwrap();
        let options = ExecOptions { tty: true, ..options() };
        let process = spec.into_process(&options, None, false, &all());
        assert_eq!(process["env"], json!(["A=1", "TERM=xterm"]));
    }

    #[test]
    fn what_is_no_spec() {
        for broken in ["", "{}", "[]", r#"{"process":null}"#, r#"{"process":[]}"#] {
            assert!(Spec::parse(broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
