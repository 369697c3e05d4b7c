//! Tasks with the real shim and runc: a static busybox in a directory.

use std::fs;
use std::path::Path;

use containerd::classify::{ShimProblem, StartFailure, shim_problem, start_failure};
use containerd::containers::NewContainer;
use containerd::events::EventBody;
use containerd::messages::RuncOptions;
use containerd::tasks::{CreateTask, ExecTask, TaskStatus};
use containerd::{Any, Client, filter};

use futures_util::future::join_all;

use super::rig::{Rig, skip};

const BUSYBOX: &str = "/usr/bin/busybox";
const KILL: u32 = 9;

/// What a process needs in an OCI spec.
fn process(command: &str) -> String {
    format!(
        r#"{{"cwd":"/","user":{{"uid":0,"gid":0}},"env":["PATH=/bin"],
            "args":["{}"]}}"#,
        command.split(' ').collect::<Vec<_>>().join("\",\"")
    )
}

/// A record whose root file system is a directory with a busybox. The names of runc and of cgroups
/// are shared by all containerds of a machine, hence the id of this process in them.
async fn container(rig: &Rig, client: &Client, id: &str, command: &str) {
    let root = rig.directory().join(client.namespace());
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::create_dir_all(root.join("proc")).unwrap();
    for program in ["sleep", "sh"] {
        let _ = fs::copy(BUSYBOX, root.join("bin").join(program));
    }
    fs::write(root.join("bin/text"), "not a program").unwrap();
    let (root, process, own) = (root.display(), process(command), std::process::id());
    let spec = format!(
        r#"{{"ociVersion":"1.0.2","process":{process},"root":{{"path":"{root}"}},
            "mounts":[{{"destination":"/proc","type":"proc","source":"proc"}}],
            "linux":{{"cgroupsPath":"/nerdctld-test-{own}-{id}",
            "namespaces":[{{"type":"pid"}},{{"type":"mount"}}]}}}}"#
    );
    let runc_root = rig.directory().join("runc").display().to_string();
    let options = RuncOptions { root: runc_root, ..RuncOptions::default() };
    let new = NewContainer {
        id: id.into(),
        runtime_name: "io.containerd.runc.v2".into(),
        runtime_options: Some(Any::runc_options(&options)),
        spec: Some(Any::oci_spec(spec)),
        ..NewContainer::default()
    };
    client.create_container(new).await.unwrap();
}

fn task(id: &str) -> CreateTask {
    CreateTask { container_id: id.into(), ..CreateTask::default() }
}

/// The shared containerd, where it can run processes.
fn rig(test: &str) -> Option<std::sync::Arc<Rig>> {
    if !Path::new(BUSYBOX).exists() {
        skip(test, "there is no /usr/bin/busybox");
        return None;
    }
    Rig::shared(test)
}

#[tokio::test]
async fn a_task_runs_from_create_to_delete() {
    let Some(rig) = rig("a_task_runs_from_create_to_delete") else { return };
    let client = rig.client("life");
    container(&rig, &client, "life", "sleep 600").await;
    let in_life = filter::and(&filter::equals("namespace", "life"), "topic~=|^/tasks/|");
    let mut events = client.subscribe(&[&in_life]).await.unwrap();

    assert!(client.get_task("life").await.unwrap_err().is_not_found());
    let pid = client.create_task(task("life")).await.unwrap();
    let created = client.get_task("life").await.unwrap();
    assert_eq!((created.pid, created.status), (pid, TaskStatus::Created));
    assert!(client.create_task(task("life")).await.unwrap_err().is_already_exists());

    client.start_task("life").await.unwrap();
    let error = client.start_task("life").await.unwrap_err();
    assert_eq!(shim_problem(&error), Some(ShimProblem::Running), "{error}");
    let error = client.delete_task("life").await.unwrap_err();
    assert_eq!(shim_problem(&error), Some(ShimProblem::Running), "{error}");
    client.resize_pty("life", None, 80, 24).await.unwrap();
    client.update_task("life", Any::linux_resources(r#"{"cpu":{"shares":512}}"#)).await.unwrap();
    assert!(
        client.metrics("life").await.unwrap().data.type_url.starts_with("io.containerd.cgroups")
    );

    client.pause("life").await.unwrap();
    assert_eq!(client.get_task("life").await.unwrap().status, TaskStatus::Paused);
    let error = client.pause("life").await.unwrap_err();
    assert_eq!(shim_problem(&error), Some(ShimProblem::Paused), "{error}");
    client.resume("life").await.unwrap();

    let waiting = client.wait("life", None);
    client.kill("life", None, KILL, false).await.unwrap();
    assert_eq!(waiting.await.unwrap().status, 137);
    let stopped = client.list_tasks().await.unwrap().remove(0);
    assert_eq!((stopped.status, stopped.exit_status), (TaskStatus::Stopped, 137));
    assert!(stopped.exited_at.is_some() && stopped.id == "life");
    let error = client.kill("life", None, KILL, false).await.unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(shim_problem(&error), Some(ShimProblem::Stopped), "{error}");
    assert_eq!(client.delete_task("life").await.unwrap().status, 137);
    assert!(client.wait("life", None).await.unwrap_err().is_not_found());

    let mut topics = Vec::new();
    while topics.last().is_none_or(|topic| topic != "/tasks/delete") {
        let event = events.next().await.unwrap().unwrap();
        if let EventBody::TaskExit { exec_id, exit, .. } = &event.body {
            assert_eq!((exec_id, exit.status), (&None, 137));
        }
        assert!(!matches!(event.body, EventBody::Other(_)), "{event:?}");
        topics.push(event.topic);
    }
    let wanted = ["create", "start", "paused", "resumed", "exit", "delete"];
    assert_eq!(topics, wanted.map(|name| format!("/tasks/{name}")));
}

#[tokio::test]
async fn an_exec_runs_beside_the_first_process() {
    let Some(rig) = rig("an_exec_runs_beside_the_first_process") else { return };
    let client = rig.client("execs");
    container(&rig, &client, "execs", "sleep 600").await;
    client.create_task(task("execs")).await.unwrap();
    client.start_task("execs").await.unwrap();
    let exec = |exec_id: &str, command: &str| ExecTask {
        container_id: "execs".into(),
        exec_id: exec_id.into(),
        process: Any::oci_process(process(command)),
        ..ExecTask::default()
    };

    client.exec(exec("e1", "sleep 600")).await.unwrap();
    assert!(client.exec(exec("e1", "sleep 600")).await.unwrap_err().is_already_exists());
    let pid = client.start_exec("execs", "e1").await.unwrap();
    assert_eq!(client.get_exec("execs", "e1").await.unwrap().pid, pid);
    let pids = client.list_pids("execs").await.unwrap();
    let found = pids.iter().find(|process| process.pid == pid).unwrap();
    assert_eq!(found.exec_id.as_deref(), Some("e1"));
    assert!(pids.iter().any(|process| process.exec_id.is_none()), "{pids:?}");
    client.kill("execs", Some("e1"), KILL, false).await.unwrap();
    assert_eq!(client.wait("execs", Some("e1")).await.unwrap().status, 137);
    assert_eq!(client.delete_process("execs", "e1").await.unwrap().status, 137);

    client.exec(exec("e2", "nosuch")).await.unwrap();
    let error = client.start_exec("execs", "e2").await.unwrap_err();
    assert_eq!(start_failure(&error), StartFailure::NoSuchProgram, "{error}");
    client.delete_process("execs", "e2").await.unwrap();

    client.kill("execs", None, KILL, true).await.unwrap();
    client.wait("execs", None).await.unwrap();
    let error = client.exec(exec("e3", "sleep 600")).await.unwrap_err();
    assert_eq!(shim_problem(&error), Some(ShimProblem::Stopped), "{error}");
    client.delete_task("execs").await.unwrap();
}

#[tokio::test]
async fn start_failures_are_recognised() {
    let Some(rig) = rig("start_failures_are_recognised") else { return };
    let client = rig.client("starts");
    for (id, command, wanted) in [
        ("s1", "nosuch", StartFailure::NoSuchProgram),
        ("s2", "/bin/text", StartFailure::NotExecutable),
    ] {
        container(&rig, &client, id, command).await;
        let error = client.create_task(task(id)).await.unwrap_err();
        assert_eq!(start_failure(&error), wanted, "{error}");
        assert!(client.get_task(id).await.unwrap_err().is_not_found());
    }
}

#[tokio::test]
async fn many_waiters_do_not_stop_other_calls() {
    let Some(rig) = rig("many_waiters_do_not_stop_other_calls") else { return };
    let client = rig.client("crowd");
    container(&rig, &client, "crowd", "sleep 600").await;
    client.create_task(task("crowd")).await.unwrap();
    client.start_task("crowd").await.unwrap();
    // HTTP/2 implementations like to limit a connection to 100 streams.
    let waiters = join_all((0..300).map(|_| client.wait("crowd", None)));
    let others = async {
        client.version().await.unwrap();
        client.kill("crowd", None, KILL, true).await.unwrap();
    };
    let (exits, ()) = tokio::join!(waiters, others);
    assert!(exits.into_iter().all(|exit| exit.unwrap().status == 137));
    client.delete_task("crowd").await.unwrap();
}
