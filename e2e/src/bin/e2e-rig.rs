//! The processes that hold a sandbox together (`e2e::sandbox` has the story): its guard, its first process, and the
//! step that every program takes into it.
//!
//! `guard ROOT` runs outside: makes the cgroups, starts the namespaces, thaws what is frozen at their end, and removes cgroups
//! and ROOT when they ended.
//! `init ROOT` is process 1 inside: lays the mounts, says `ready`, and lives until its standard input ends.
//! `exec PROGRAM …` enters the sandbox's cgroups and becomes PROGRAM.

use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["guard", root] => guard(Path::new(root)),
        ["init", root] => init(Path::new(root)),
        ["exec", program, ref rest @ ..] => exec(program, rest),
        _ => Err(anyhow::anyhow!("usage: e2e-rig guard ROOT | init ROOT | exec PROGRAM …")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log of the sandbox is all there is to tell; a closed one must not stop a clean-up.
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("e2e-rig: {error:#}\n"),
            );
            ExitCode::FAILURE
        }
    }
}

// ---- outside ----------------------------------------------------------------

fn guard(root: &Path) -> Result<()> {
    let name = root.file_name().and_then(|name| name.to_str()).context("root without a name")?;
    let cgroups = Hierarchy::all()?;
    for hierarchy in &cgroups {
        hierarchy.make(name)?;
        hierarchy.enter(&hierarchy.mount_point.join(name))?;
    }
    let groups: Vec<_> = cgroups.iter().map(|group| group.mount_point.join(name)).collect();
    std::thread::spawn(move || thaw_at_the_end(&groups));
    let me = std::env::current_exe().context("own path")?;
    // --kill-child: the namespaces end with us as well, should somebody kill us.
    let status = Command::new("unshare")
        .args([
            "--fork",
            "--kill-child",
            "--pid",
            "--mount",
            "--net",
            "--cgroup",
            "--propagation",
            "private",
        ])
        .arg("--mount-proc")
        .arg(me)
        .arg("init")
        .arg(root)
        .status();
    for hierarchy in &cgroups {
        // Back out, so that the folder can go. Where that is refused it stays, empty.
        let _ = hierarchy.enter(&hierarchy.own);
        remove_cgroup(&hierarchy.mount_point.join(name));
    }
    if std::env::var_os("E2E_KEEP").is_none() {
        remove_tree(root);
    }
    status.context("unshare")?;
    Ok(())
}

/// A frozen process (a paused container's) is not even ended by the end of its namespace: it dies when it is thawed, and the
/// first process inside waits for it. So from the moment when the test program lets go of the pipe, everything is thawed
/// again and again, until we have ended: what is still alive may freeze others as long as it is.
fn thaw_at_the_end(groups: &[PathBuf]) {
    let input = std::io::stdin();
    // Nothing is read, which is for the first process inside: a pipe without a writer hangs up.
    let mut pipe = [PollFd::new(&input, PollFlags::empty())];
    while !matches!(poll(&mut pipe, None), Ok(1..)) {}
    loop {
        groups.iter().for_each(|group| thaw(group));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// From the top down: what is frozen above keeps frozen what is below.
fn thaw(group: &Path) {
    for (file, value) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        let file = group.join(file);
        if file.exists() {
            // A group may vanish at any moment, and with it all that was frozen.
            let _ = fs::write(file, value);
        }
    }
    for inner in fs::read_dir(group).into_iter().flatten().flatten() {
        if inner.file_type().is_ok_and(|kind| kind.is_dir()) {
            thaw(&inner.path());
        }
    }
}

/// The kernel takes a moment to let go of killed processes.
fn remove_cgroup(folder: &Path) {
    for _ in 0..100 {
        for inner in fs::read_dir(folder).into_iter().flatten().flatten() {
            if inner.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_cgroup_once(&inner.path());
            }
        }
        if fs::remove_dir(folder).is_ok() || !folder.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn remove_cgroup_once(folder: &Path) {
    for inner in fs::read_dir(folder).into_iter().flatten().flatten() {
        if inner.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup_once(&inner.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

fn remove_tree(root: &Path) {
    for _ in 0..50 {
        if fs::remove_dir_all(root).is_ok() || !root.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

// ---- cgroups ----------------------------------------------------------------

/// One mounted cgroup hierarchy: a controller of version 1, or version 2.
struct Hierarchy {
    mount_point: PathBuf,
    version_2: bool,
    /// Where this process was before the sandbox.
    own: PathBuf,
}

impl Hierarchy {
    fn all() -> Result<Vec<Self>> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("mountinfo")?;
        let own = fs::read_to_string("/proc/self/cgroup").context("own cgroup")?;
        Ok(mounts.lines().filter_map(|line| Self::parse(line, &own)).collect())
    }

    /// A line of mountinfo: `… MOUNT-POINT options … - cgroup SOURCE CONTROLLERS`; of cgroup: `N:CONTROLLERS:PATH`.
    fn parse(line: &str, own: &str) -> Option<Self> {
        let (front, back) = line.split_once(" - ")?;
        let mount_point = PathBuf::from(front.split(' ').nth(4)?);
        let mut back = back.split(' ');
        let version_2 = match back.next()? {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        let options = back.nth(1).unwrap_or_default();
        let path = own.lines().find_map(|entry| {
            let (_, rest) = entry.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let same = if version_2 {
                controllers.is_empty()
            } else {
                !controllers.is_empty()
                    && controllers.split(',').all(|c| options.split(',').any(|o| o == c))
            };
            same.then_some(path)
        })?;
        let own = mount_point.join(path.trim_start_matches('/'));
        Some(Self { mount_point, version_2, own })
    }

    fn make(&self, name: &str) -> Result<()> {
        let folder = self.mount_point.join(name);
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        // A cpuset without CPUs takes no process.
        for file in ["cpuset.mems", "cpuset.cpus"] {
            if let (false, Ok(value)) = (self.version_2, fs::read(self.mount_point.join(file))) {
                let _ = fs::write(folder.join(file), value);
            }
        }
        Ok(())
    }

    fn enter(&self, folder: &Path) -> Result<()> {
        let file = folder.join("cgroup.procs");
        fs::write(&file, "0").with_context(|| format!("entering {}", file.display()))
    }
}

// ---- inside -----------------------------------------------------------------

/// Where processes of a version 2 sandbox live: a group with processes can have no groups with controllers below it.
const LEAF: &str = "init";

fn init(root: &Path) -> Result<()> {
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .context("making mounts shared")?;
    let name = root.file_name().context("root without a name")?;
    for hierarchy in Hierarchy::all()? {
        let ours = hierarchy.mount_point.join(name);
        mount_bind(&ours, &hierarchy.mount_point)
            .with_context(|| format!("mounting {}", ours.display()))?;
        if hierarchy.version_2 {
            prepare_version_2(&hierarchy)?;
        }
    }
    private_folders(root)?;
    for (key, value) in [("net/ipv4/ip_forward", "1"), ("net/bridge/bridge-nf-call-iptables", "1")]
    {
        // The second exists only where its kernel module is there.
        let _ = fs::write(Path::new("/proc/sys").join(key), value);
    }
    if !Command::new("ip").args(["link", "set", "lo", "up"]).status().context("ip link")?.success()
    {
        bail!("ip link set lo up failed");
    }
    std::thread::spawn(reap);
    std::io::Write::write_all(&mut std::io::stdout(), b"ready\n").context("saying ready")?;
    // Our end is the end of every process in this namespace.
    let mut byte = [0];
    while matches!(std::io::stdin().read(&mut byte), Ok(1)) {}
    Ok(())
}

fn prepare_version_2(hierarchy: &Hierarchy) -> Result<()> {
    let leaf = hierarchy.mount_point.join(LEAF);
    fs::create_dir(&leaf).with_context(|| format!("making {}", leaf.display()))?;
    hierarchy.enter(&leaf)?;
    let controllers =
        fs::read_to_string(hierarchy.mount_point.join("cgroup.controllers")).unwrap_or_default();
    for controller in controllers.split_whitespace() {
        let _ = fs::write(
            hierarchy.mount_point.join("cgroup.subtree_control"),
            format!("+{controller}"),
        );
    }
    Ok(())
}

/// What programs write outside of folders that they can be told stays in the sandbox: `/etc`, `/opt`, `/var` and the home of
/// root are writable views of the machine's, `/run` and the homes of container programs are empty.
fn private_folders(root: &Path) -> Result<()> {
    let none = MountFlags::empty();
    let memory = root.join("views");
    fs::create_dir(&memory).context("making views")?;
    mount("tmpfs", &memory, "tmpfs", none, c"mode=0755").context("mounting views")?;
    for folder in ["etc", "opt", "var", "root"] {
        let (upper, work) = (memory.join(folder), memory.join(format!("{folder}.work")));
        fs::create_dir(&upper).context("making a view")?;
        fs::create_dir(&work).context("making a view")?;
        let options =
            format!("lowerdir=/{folder},upperdir={},workdir={}", upper.display(), work.display());
        let options = std::ffi::CString::new(options).context("mount options")?;
        mount("overlay", format!("/{folder}"), "overlay", none, options.as_c_str())
            .with_context(|| format!("mounting a view of /{folder}"))?;
    }
    // What other containers left on this machine is not there: addresses, networks, images, logs.
    for folder in [
        "/run",
        "/var/lib/cni",
        "/var/lib/containerd",
        "/var/lib/nerdctl",
        "/etc/cni",
        "/etc/nerdctl",
    ] {
        fs::create_dir_all(folder).with_context(|| format!("making {folder}"))?;
        mount("tmpfs", folder, "tmpfs", none, c"mode=0755")
            .with_context(|| format!("mounting {folder}"))?;
    }
    fs::create_dir("/run/lock").context("making /run/lock")
}

/// Processes whose parents ended become ours.
fn reap() {
    loop {
        if rustix::process::wait(rustix::process::WaitOptions::empty()).is_err() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn exec(program: &str, arguments: &[&str]) -> Result<()> {
    for hierarchy in Hierarchy::all()? {
        let leaf = hierarchy.mount_point.join(LEAF);
        hierarchy.enter(if hierarchy.version_2 { &leaf } else { &hierarchy.mount_point })?;
    }
    Err(Command::new(program).args(arguments).exec()).with_context(|| format!("running {program}"))
}
