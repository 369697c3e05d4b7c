//! What is written and read again, and what a crash may leave.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use jiff::Timestamp;

use super::*;
use crate::locks::LOCK_DEADLINE;

fn state(dir: &Path) -> StateDir {
    let state = StateDir::new(dir.join("containers/default/abc"), "abc", dir, LOCK_DEADLINE);
    state.create().unwrap();
    state
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn files_are_those_of_nerdctl() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(dir.path());
    state.write_hostname("web").unwrap();
    state.write_resolv_conf("nameserver 8.8.8.8\n").unwrap();
    state.create_log_file().unwrap();
    let config = LogConfig {
        driver: "json-file".into(),
        opts: BTreeMap::from([("max-size".into(), "10m".into())]),
        address: "/run/containerd/containerd.sock".into(),
    };
    state.write_log_config(&config).unwrap();
    let ports = NetworkConfig {
        port_mappings: vec![PortMapping {
            host_port: 8080,
            container_port: 80,
            protocol: "tcp".into(),
            host_ip: "0.0.0.0".into(),
        }],
    };

    assert_eq!(
        (text(state.hostname_path()).as_str(), mode(state.hostname_path())),
        ("web\n", 0o644)
    );
    assert_eq!(mode(state.resolv_conf_path()), 0o644);
    assert_eq!((text(state.log_path()).as_str(), mode(state.log_path())), ("", 0o600));
    assert!(state.log_path().ends_with("abc/abc-json.log"));
    assert_eq!(
        text(state.path().join("log-config.json")),
        r#"{"driver":"json-file","opts":{"max-size":"10m"},"address":"/run/containerd/containerd.sock"}"#
    );
    assert_eq!(state.log_config().unwrap(), Some(config));

    let file = state.path().join("network-config.json");
    state.set_network_config(&NetworkConfig::default()).unwrap();
    assert_eq!((text(&file).as_str(), mode(&file)), ("{}", 0o600));
    state.set_network_config(&ports).unwrap();
    assert_eq!(
        text(&file),
        r#"{"portMappings":[{"HostPort":8080,"ContainerPort":80,"Protocol":"tcp","HostIP":"0.0.0.0"}]}"#
    );
    assert_eq!(state.network_config().unwrap(), ports);
    assert_eq!(mode(state.path()), 0o700);
}

#[test]
fn what_is_not_there_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(dir.path());
    assert_eq!(state.log_config().unwrap(), None);
    assert_eq!(state.network_config().unwrap(), NetworkConfig::default());
    assert_eq!(state.lifecycle().unwrap(), Lifecycle::default());
    assert_eq!(state.last_exit().unwrap(), None);
    state.note_start(|_| ()).unwrap();
    assert_eq!(state.earlier_exit().unwrap(), None);
    fs::write(state.path().join("lifecycle.json"), "").unwrap();
    assert_eq!(state.lifecycle().unwrap(), Lifecycle::default(), "an empty file of a crash");
    fs::write(state.path().join("lifecycle.json"), "{").unwrap();
    assert!(matches!(state.lifecycle(), Err(StoreError::Malformed { .. })));
}

#[test]
fn a_start_that_was_none_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(dir.path());
    let at = |second: i64| Timestamp::from_second(second).unwrap();
    let run = |second| Run { pid: 42, started_at: at(second) };
    let begin = |second| {
        state.note_start(|lifecycle| lifecycle.begin(run(second))).unwrap();
    };
    begin(1);
    assert!(!state.take_back_start(Some(127)).unwrap(), "it has never run");
    assert_eq!(state.lifecycle().unwrap(), Lifecycle::default());
    begin(2);
    let first =
        ExitRecord { exit_code: 3, finished_at: at(5), oom_killed: false, run: Some(run(2)) };
    state.record_exit(&first).unwrap();
    begin(6);
    assert!(state.take_back_start(None).unwrap());
    assert_eq!(state.exit_of(run(2)).unwrap(), Some(first));
    assert_eq!(state.lifecycle().unwrap().run(), Some(run(2)));
    begin(7);
    assert!(state.take_back_start(Some(127)).unwrap());
    assert_eq!(state.last_exit().unwrap().unwrap().exit_code, 127);
    assert!(state.take_back_start(Some(126)).unwrap(), "a start that the hook never saw");
    assert_eq!(state.last_exit().unwrap().unwrap().exit_code, 126);
}

#[test]
fn five_probes_are_kept_a_line_each() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(dir.path());
    assert_eq!(state.probes().unwrap(), []);
    let at = |second: i64| Timestamp::from_second(second).unwrap();
    let result = |number: i64| ProbeResult {
        start: at(number),
        end: at(number + 1),
        exit_code: number,
        output: "a\nb".into(),
    };
    for number in 0..7 {
        state.add_probe(result(number)).unwrap();
    }
    assert_eq!(state.probes().unwrap(), (2..7).map(result).collect::<Vec<_>>());
    let file = text(state.path().join("health.json"));
    assert_eq!(file.lines().count(), 5);
    assert_eq!(
        file.lines().next(),
        Some(
            r#"{"Start":"1970-01-01T00:00:02Z","End":"1970-01-01T00:00:03Z","ExitCode":2,"Output":"a\nb"}"#
        )
    );
    fs::write(state.path().join("health.json"), format!("garbage\n{file}")).unwrap();
    assert_eq!(state.probes().unwrap().len(), 5);
    let long = file.repeat(2 * usize::try_from(health::READ).unwrap() / file.len());
    fs::write(state.path().join("health.json"), long).unwrap();
    assert_eq!(state.probes().unwrap(), (2..7).map(result).collect::<Vec<_>>());
}

#[test]
fn a_removal_is_known_once_it_has_begun() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(dir.path());
    assert_eq!(state.removal().unwrap(), None);
    state.mark_removal(false).unwrap();
    assert_eq!(state.removal().unwrap(), Some(false));
    state.mark_removal(true).unwrap();
    assert_eq!(state.removal().unwrap(), Some(true));
}

#[test]
fn the_end_of_a_run_is_recorded_once_it_is_the_last_one() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(dir.path());
    let at = |second: i64| Timestamp::from_second(second).unwrap();
    let run = |second| Run { pid: 42, started_at: at(second) };
    let record = |run| ExitRecord { exit_code: 137, finished_at: at(9), oom_killed: true, run };

    state.update_lifecycle(|lifecycle| lifecycle.begin(run(1))).unwrap();
    assert!(state.record_exit(&record(Some(run(1)))).unwrap());
    assert_eq!(
        text(state.path().join("exit.json")),
        concat!(
            r#"{"exit_code":137,"finished_at":"1970-01-01T00:00:09Z","oom_killed":true,"pid":42,"#,
            r#""started_at":"1970-01-01T00:00:01Z"}"#
        )
    );
    assert_eq!(state.exit_of(run(1)).unwrap(), Some(record(Some(run(1)))));
    assert_eq!(state.exit_of(run(2)).unwrap(), None);

    state.update_lifecycle(|lifecycle| lifecycle.begin(run(2))).unwrap();
    assert!(!state.record_exit(&record(Some(run(1)))).unwrap());

    assert!(state.record_exit(&record(None)).unwrap(), "a run without name");
    assert_eq!(state.last_exit().unwrap(), Some(record(None)));
    state.note_start(|lifecycle| lifecycle.begin(run(3))).unwrap();
    assert_eq!(state.last_exit().unwrap(), None);
    assert_eq!(state.earlier_exit().unwrap(), Some(record(None)));
    assert!(!state.record_exit(&record(Some(run(2)))).unwrap(), "it comes too late");
}

#[test]
fn removal_takes_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(dir.path());
    drop(state.oplock().unwrap());
    fs::create_dir(state.shm_path()).unwrap();
    fs::write(state.shm_path().join("x"), "").unwrap();
    state.remove_all().unwrap();
    assert!(!state.exists());
    state.remove_all().unwrap();
    let late = state.update_lifecycle(|lifecycle| lifecycle.fail()).unwrap_err();
    assert!(late.is_not_found(), "{late}");
    assert!(state.oplock().unwrap_err().is_not_found());
    assert!(!state.exists(), "late news do not bring it back");
}

/// Set in the process that has a mount namespace of its own.
const INSIDE: &str = "STATE_DIR_TEST_INSIDE";

#[test]
fn shared_memory_is_unmounted_before_the_directory_goes() {
    let name = "state_dir::tests::shared_memory_is_unmounted_before_the_directory_goes";
    if std::env::var_os(INSIDE).is_none() {
        return run_again_with_own_mounts(name);
    }
    let dir = tempfile::tempdir().unwrap();
    let state = state(dir.path());
    let memory = dir.path().join("memory");
    fs::create_dir(&memory).unwrap();
    fs::write(memory.join("precious"), "").unwrap();
    fs::create_dir(state.shm_path()).unwrap();
    for _ in 0..2 {
        rustix::mount::mount_bind(&memory, state.shm_path()).unwrap();
    }
    state.remove_all().unwrap();
    assert!(!state.exists());
    assert!(memory.join("precious").exists());
}

fn run_again_with_own_mounts(name: &str) {
    use std::io::Write;
    if fs::metadata("/proc/self").is_ok_and(|me| me.uid() != 0) {
        // Not with `eprintln!`, which the harness swallows.
        let _ = writeln!(io::stderr(), "SKIPPED {name}: mounting needs root");
        return;
    }
    let output = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
