//! The kubelet's namespace: whatever a person cleans up with Docker's commands, pods and what they were made of stay.

use std::time::Duration;

use e2e::cli::Docker;
use e2e::host::ContainerdVersion;
use e2e::runner::{OrSkip as _, skip};
use e2e::sandbox::until;
use e2e::{Host, Result, Rig, Test, ensure, peers, tests};
use serde_json::Value;

pub(crate) const TESTS: &[Test] = tests![cleaning_up_leaves_pods_alone.ours_only().slow()];

/// An image of the pods; the pause image is the rig's pinned one.
const IMAGE: &str = "docker.io/library/busybox:latest";
const PAUSE: &str = "docker.io/library/httpd:2";

/// Everything that pods live on.
#[derive(Debug, PartialEq, Eq)]
struct World {
    containers: Vec<String>,
    tasks: Vec<String>,
    /// Name, digest and labels of all image records.
    images: Vec<String>,
    content: Vec<String>,
    snapshots: Vec<String>,
}

impl World {
    fn of(host: &Host) -> Result<Self> {
        let lines = |arguments: &[&str]| -> Result<Vec<String>> {
            let arguments = [&["-n", "k8s.io"], arguments].concat();
            let mut lines: Vec<String> = host.ctr(&arguments)?.lines().map(str::to_owned).collect();
            lines.sort();
            Ok(lines)
        };
        Ok(Self {
            containers: lines(&["containers", "ls", "-q"])?,
            tasks: lines(&["tasks", "ls"])?,
            images: lines(&["images", "ls"])?,
            content: lines(&["content", "ls", "-q"])?,
            snapshots: lines(&["snapshots", "ls"])?,
        })
    }
}

fn cleaning_up_leaves_pods_alone(rig: &Rig) -> Result<()> {
    let pods = peers::program("pods", "pods").or_skip()?;
    if ContainerdVersion::from_environment()? != ContainerdVersion::V2 {
        return Err(skip("pods need containerd 2"));
    }
    rig.with_own_host(
        |plan| plan.kubernetes = true,
        |host| {
            // One: the pause image of the rig takes a port of the host's network.
            let mut command = host.command(&pods)?;
            command.arg(host.containerd_socket()?).args([IMAGE, "one"]);
            host.sandbox()?.run(&mut command)?;
            let api = host.api();
            let listed = || -> Result<usize> {
                Ok(api.get_json("/containers/json")?.as_array().map_or(0, Vec::len))
            };
            until(Duration::from_secs(20), "the pod is seen", || {
                listed().is_ok_and(|count| count == 2)
            })?;
            let before = World::of(host)?;
            ensure!(before.images.iter().any(|line| line.starts_with(PAUSE)), "{before:?}");
            let docker = Docker::newest(host).or_skip()?;
            for clean_up in [
                "image prune -f",
                "image prune -a -f",
                "image prune -a -f --filter until=1s",
                "container prune -f",
                "volume prune -a -f",
                "system prune -f",
                "system prune -a -f --volumes",
            ] {
                let arguments: Vec<&str> = clean_up.split(' ').collect();
                docker.run(&arguments)?;
                ensure!(World::of(host)? == before, "after docker {clean_up}");
            }
            for removal in [
                &["rmi", IMAGE][..],
                &["rmi", "-f", IMAGE],
                &["rmi", "-f", PAUSE],
                &["image", "rm", "-f", PAUSE, IMAGE],
            ] {
                let ended = docker.run(removal)?;
                ensure!(ended.code != 0, "docker {removal:?} says {:?}", ended.stdout);
                ensure!(World::of(host)? == before, "after docker {removal:?}");
            }
            remove_by_every_id(host, &docker, &before)?;
            ensure!(listed()? == 2, "a pod ended");
            Ok(())
        },
    )
}

/// The same by ids, short and long, as lists show them.
fn remove_by_every_id(host: &Host, docker: &Docker, before: &World) -> Result<()> {
    let images = host.api().get_json("/images/json?all=1")?;
    for image in images.as_array().into_iter().flatten() {
        let id = image["Id"].as_str().unwrap_or_default();
        let short = id.trim_start_matches("sha256:").get(..12).unwrap_or_default();
        let digests = image["RepoDigests"].as_array().into_iter().flatten();
        let names = digests.filter_map(Value::as_str).chain([id, short]);
        for name in names {
            let ended = docker.run(&["rmi", "-f", name])?;
            ensure!(ended.code != 0, "docker rmi -f {name} says {:?}", ended.stdout);
            ensure!(World::of(host)? == *before, "after docker rmi -f {name}");
        }
    }
    Ok(())
}
