//! The rig itself: what it starts works without the daemon, and its end leaves nothing.

use e2e::host::{Engine, Host, LOGIN_REGISTRY, Plan};
use e2e::runner::OrSkip as _;
use e2e::{Context as _, Result, Rig, Sandbox, Test, ensure, peers, tests};

pub(crate) const TESTS: &[Test] = tests![
    nerdctl_runs_on_the_hosts_containerd,
    a_dropped_sandbox_leaves_nothing,
    a_dropped_sandbox_leaves_nothing_frozen,
];

fn nerdctl_runs_on_the_hosts_containerd(_: &Rig) -> Result<()> {
    peers::program("nerdctl", "nerdctl").or_skip()?;
    let mut plan = Plan::from_environment()?;
    plan.engine = Engine::Nerdctld;
    let host = Host::without_daemon(plan)?;
    let out = host.nerdctl(&["run", "--rm", "--net=none", "busybox", "echo", "hello"]);
    let out = out.with_context(|| host.logs_since(&[]))?;
    ensure!(out.contains("hello"), "{out}");
    host.nerdctl(&["run", "-d", "--name", "web", "nginx"]).with_context(|| host.logs_since(&[]))?;
    let rows = host.nerdctl(&["ps", "--format", "{{.Names}} {{.Status}}"])?;
    ensure!(rows.contains("web Up"), "{rows}");
    // The bridge of this host, reached from inside its network.
    let page = host.nerdctl(&["exec", "web", "wget", "-qO-", "http://127.0.0.1/"])?;
    ensure!(!page.is_empty(), "no page");
    let refused = host.nerdctl(&["pull", &format!("{LOGIN_REGISTRY}/busybox:latest")]);
    ensure!(refused.is_err(), "the registry with a login gave an image to a stranger");
    Ok(())
}

fn a_dropped_sandbox_leaves_nothing(_: &Rig) -> Result<()> {
    let sandbox = Sandbox::new()?;
    let root = sandbox.root().to_path_buf();
    // A process that no parent waits for any more.
    let mut shell = sandbox.command("sh");
    sandbox.run(shell.args([
        "-c",
        "setsid sleep 1000 > /dev/null 2>&1 & ip link add v0 type dummy; mount -t tmpfs t /mnt",
    ]))?;
    let sleeper = sandbox
        .processes()
        .into_iter()
        .find(|process| process.arguments.iter().any(|word| word == "1000"))
        .context("the process is not there")?;
    drop(sandbox);
    ensure!(!std::path::Path::new(&format!("/proc/{}", sleeper.pid)).exists(), "a process is left");
    ensure!(!root.exists(), "{} is left", root.display());
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    ensure!(!mounts.contains(" /mnt tmpfs"), "a mount is left");
    let name = root.file_name().and_then(|name| name.to_str()).context("name")?;
    let groups =
        std::fs::read_dir("/sys/fs/cgroup")?.flatten().map(|entry| entry.path().join(name));
    for group in groups {
        ensure!(!group.exists(), "{} is left", group.display());
    }
    Ok(())
}

/// As a test leaves it that ends between `pause` and `unpause`.
fn a_dropped_sandbox_leaves_nothing_frozen(_: &Rig) -> Result<()> {
    let sandbox = Sandbox::new()?;
    let root = sandbox.root().to_path_buf();
    let mut shell = sandbox.command("sh");
    sandbox.run(shell.args(["-c", FREEZE]))?;
    let sleeper = sandbox
        .processes()
        .into_iter()
        .find(|process| process.arguments.iter().any(|word| word == "1001"))
        .context("the process is not there")?;
    drop(sandbox);
    ensure!(!std::path::Path::new(&format!("/proc/{}", sleeper.pid)).exists(), "a process is left");
    ensure!(!root.exists(), "{} is left", root.display());
    Ok(())
}

/// A process in a frozen group below another one, on cgroup v1 and v2.
const FREEZE: &str = "
    setsid sleep 1001 > /dev/null 2>&1 &
    if [ -d /sys/fs/cgroup/freezer ]; then
        group=/sys/fs/cgroup/freezer/a/b file=freezer.state value=FROZEN
    else
        group=/sys/fs/cgroup/a/b file=cgroup.freeze value=1
    fi
    mkdir -p $group && echo $! > $group/cgroup.procs && echo $value > $group/$file
    until grep -qE \"FROZEN|frozen 1\" $group/freezer.state $group/cgroup.events 2> /dev/null; do sleep 0.01; done";
