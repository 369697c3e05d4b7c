//! A user's own containerd lives in the namespaces of `RootlessKit`, and a daemon for it has to live there too.
//!
//! Who starts nerdctld as a user, without another containerd that he may talk to, means that one. Its socket in
//! `XDG_RUNTIME_DIR` can be reached from outside, but the paths in its answers mean something only inside. nerdctl finds it by the state
//! directory of `RootlessKit` and executes itself again in its child's namespaces (nerdctl `pkg/rootlessutil/parent_linux.go`);
//! we do the same, before there is a thread: the kernel moves only processes of one thread into a user namespace. The
//! process id stays, so systemd does not notice; the socket in `XDG_RUNTIME_DIR` is the same file inside and outside.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::config::{Config, ContainerdChoice};

/// Where `RootlessKit` keeps its state; set for its child, and for what joins it.
const STATE_DIR: &str = "ROOTLESSKIT_STATE_DIR";
/// Below `XDG_RUNTIME_DIR`, as containerd-rootless.sh starts it.
const USUAL_STATE_DIR: &str = "containerd-rootless";
/// The file of its child's process id, there.
const CHILD: &str = "child_pid";

/// Why a user's daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootlessError {
    /// Nothing to be a daemon for.
    #[error(
        "you are not root, containerd's socket {containerd} does not answer you, and there is no rootless containerd of yours ({looked}): \
         start one (containerd-rootless-setuptool.sh install, which comes with nerdctl), name one with --containerd, or start nerdctld as root"
    )]
    Nobody {
        /// The socket.
        containerd: PathBuf,
        /// Which file would name the other one's process.
        looked: String,
    },
    /// The file is there, but what it says is no process.
    #[error("{path}: {text:?} is no process id; start your rootless containerd again")]
    ChildPid {
        /// The file.
        path: PathBuf,
        /// Its text.
        text: String,
    },
    /// The namespaces of the child cannot be entered.
    #[error("cannot {doing} of your rootless containerd (process {pid}); is it still running?")]
    Enter {
        /// The step.
        doing: &'static str,
        /// The child.
        pid: u32,
        /// The kernel's words.
        #[source]
        source: io::Error,
    },
}

/// `RootlessKit`'s child and where its state is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Child {
    pid: u32,
    state_dir: PathBuf,
    /// Containers have a network namespace of their own beside the host's, in which the daemon stays.
    detached_network: bool,
}

/// What is asked of the machine; a test has its own.
pub(crate) struct Surroundings<'a> {
    /// Effective user id is 0, real or in a namespace.
    pub(crate) root: bool,
    /// One variable of the environment.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// Contents of a file.
    pub(crate) read: &'a dyn Fn(&Path) -> io::Result<String>,
    /// Whether a file exists.
    pub(crate) exists: &'a dyn Fn(&Path) -> bool,
    /// Somebody takes connections on this socket, and we may connect.
    pub(crate) answers: &'a dyn Fn(&Path) -> bool,
}

/// Whether we are root of a user's namespaces already (nerdctl `pkg/rootlessutil/rootlessutil_linux.go`).
pub(crate) fn is_inside() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    std::env::var_os(STATE_DIR).is_some() && is_partial(&map)
}

/// Only the first user namespace maps every user to himself.
fn is_partial(uid_map: &str) -> bool {
    let numbers: Vec<&str> = uid_map.split_ascii_whitespace().collect();
    !numbers.is_empty() && numbers != ["0", "0", "4294967295"]
}

/// Whose namespaces to enter; `None` where we are right already.
///
/// # Errors
/// A user without any containerd.
pub(crate) fn wanted(
    containerd: &ContainerdChoice,
    around: &Surroundings<'_>,
) -> Result<Option<Child>, RootlessError> {
    let ContainerdChoice::At(socket) = containerd else { return Ok(None) };
    if around.root {
        return Ok(None);
    }
    let set = |name| (around.variable)(name).filter(|value| !value.is_empty());
    let run_dir = set("XDG_RUNTIME_DIR").map(PathBuf::from);
    let is_own = run_dir.as_ref().is_some_and(|run| socket.starts_with(run));
    let state_dir =
        set(STATE_DIR).map(PathBuf::from).or_else(|| run_dir.map(|run| run.join(USUAL_STATE_DIR)));
    if (around.answers)(socket) && !(is_own && has_live_child(state_dir.as_deref(), around)) {
        return Ok(None);
    }
    let nobody = |looked: String| RootlessError::Nobody { containerd: socket.clone(), looked };
    let Some(state_dir) = state_dir else {
        return Err(nobody("XDG_RUNTIME_DIR is not set".to_owned()));
    };
    let path = state_dir.join(CHILD);
    let Ok(text) = (around.read)(&path) else {
        return Err(nobody(format!("{} does not exist", path.display())));
    };
    let Some(pid) = process(&text) else {
        return Err(RootlessError::ChildPid { path, text });
    };
    let detached_network = (around.exists)(&state_dir.join("netns"));
    Ok(Some(Child { pid, state_dir, detached_network }))
}

/// `RootlessKit` runs, whatever the socket is that answers.
fn has_live_child(state_dir: Option<&Path>, around: &Surroundings<'_>) -> bool {
    let text = state_dir.and_then(|folder| (around.read)(&folder.join(CHILD)).ok());
    let pid = text.as_deref().and_then(process);
    pid.is_some_and(|pid| (around.exists)(Path::new(&format!("/proc/{pid}"))))
}

fn process(text: &str) -> Option<u32> {
    text.trim().parse().ok().filter(|pid| *pid > 1)
}

/// Enter the namespaces of a rootless containerd where the daemon is meant for one; then the program starts anew in them,
/// and this returns only if that failed.
///
/// Must be called before any thread is started.
///
/// # Errors
/// [`RootlessError`].
pub(crate) fn enter(config: &Config, arguments: &[OsString]) -> Result<(), RootlessError> {
    let around = Surroundings {
        root: rustix::process::geteuid().is_root(),
        variable: &|name| std::env::var(name).ok(),
        read: &|path| std::fs::read_to_string(path),
        exists: &Path::exists,
        answers: &|socket| UnixStream::connect(socket).is_ok(),
    };
    match wanted(&config.containerd, &around)? {
        None => Ok(()),
        Some(child) => Err(join(&child, arguments)),
    }
}

fn join(child: &Child, arguments: &[OsString]) -> RootlessError {
    let failed =
        |doing| move |source: io::Error| RootlessError::Enter { doing, pid: child.pid, source };
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let here = std::env::current_dir();
    let program = std::env::current_exe();
    let entered = namespaces(child).map_err(failed("open the namespaces")).and_then(|found| {
        let enter = |(file, kind): &(File, LinkNameSpaceType)| {
            move_into_link_name_space(file.as_fd(), Some(*kind))
        };
        found
            .iter()
            .try_for_each(enter)
            .map_err(io::Error::from)
            .map_err(failed("enter the namespaces"))
    });
    if let Err(error) = entered {
        return error;
    }
    // The mount namespace has put us at its root.
    let _ = here.and_then(std::env::set_current_dir);
    let program = program.unwrap_or_else(|_| "/proc/self/exe".into());
    let source = Command::new(program)
        .args(arguments.iter().skip(1))
        .env(STATE_DIR, &child.state_dir)
        .env("ROOTLESSKIT_PARENT_EUID", user.as_raw().to_string())
        .env("ROOTLESSKIT_PARENT_EGID", group.as_raw().to_string())
        .exec();
    RootlessError::Enter { doing: "start again in the namespaces", pid: child.pid, source }
}

/// All are opened first: after the first step the others are seen with other eyes. Those that we share with the child
/// (`RootlessKit` with `--net=host`) are left out: they are not the user's, so the kernel refuses to let him in again.
fn namespaces(child: &Child) -> io::Result<Vec<(File, LinkNameSpaceType)>> {
    let mut kinds = vec![("user", LinkNameSpaceType::User), ("mnt", LinkNameSpaceType::Mount)];
    if !child.detached_network {
        kinds.push(("net", LinkNameSpaceType::Network));
    }
    let mut found = Vec::new();
    for (name, kind) in kinds {
        let theirs = File::open(format!("/proc/{}/ns/{name}", child.pid))?;
        if !is_same(&theirs, &File::open(format!("/proc/self/ns/{name}"))?)? {
            found.push((theirs, kind));
        }
    }
    Ok(found)
}

/// Both files are one namespace.
fn is_same(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A user with a runtime folder.
    struct Machine {
        root: bool,
        answers: bool,
        files: Vec<(&'static str, &'static str)>,
        variables: Vec<(&'static str, &'static str)>,
    }

    impl Machine {
        fn user(files: &[(&'static str, &'static str)]) -> Self {
            let variables = vec![("XDG_RUNTIME_DIR", "/run/user/7")];
            Self { root: false, answers: false, files: files.to_vec(), variables }
        }

        fn wanted(&self) -> Result<Option<Child>, RootlessError> {
            self.wanted_for("/run/containerd/containerd.sock")
        }

        fn wanted_for(&self, socket: &str) -> Result<Option<Child>, RootlessError> {
            let file = |path: &Path| {
                let found = self.files.iter().find(|(known, _)| Path::new(known) == path);
                found.map(|(_, text)| (*text).to_owned())
            };
            let around = Surroundings {
                root: self.root,
                variable: &|name| {
                    let found = self.variables.iter().find(|(known, _)| *known == name);
                    found.map(|(_, value)| (*value).to_owned())
                },
                read: &|path| file(path).ok_or(io::ErrorKind::NotFound.into()),
                exists: &|path| file(path).is_some(),
                answers: &|_| self.answers,
            };
            wanted(&ContainerdChoice::At(socket.into()), &around)
        }
    }

    #[test]
    fn root_and_users_with_a_containerd_stay() {
        let user = Machine::user(&[("/run/user/7/containerd-rootless/child_pid", "42")]);
        assert_eq!(Machine { root: true, ..Machine::user(&[]) }.wanted().unwrap(), None);
        assert_eq!(Machine { answers: true, ..user }.wanted().unwrap(), None);
    }

    #[test]
    fn a_socket_of_ones_own_that_answers_from_outside_is_of_those_inside() {
        let usual = ("/run/user/7/containerd-rootless/child_pid", "42\n");
        let own = "/run/user/7/containerd/containerd.sock";
        let pid = |files: &[(&'static str, &'static str)], socket| {
            let machine = Machine { answers: true, ..Machine::user(files) };
            machine.wanted_for(socket).unwrap().map(|child| child.pid)
        };
        assert_eq!(pid(&[usual, ("/proc/42", "")], own), Some(42));
        assert_eq!(pid(&[usual], own), None, "RootlessKit has ended");
        assert_eq!(pid(&[], own), None, "there has never been one");
        assert_eq!(pid(&[usual, ("/proc/42", "")], "/run/containerd/containerd.sock"), None);
    }

    #[test]
    fn a_rootless_containerd_is_found_by_its_state() {
        let usual = "/run/user/7/containerd-rootless/child_pid";
        let child = Machine::user(&[(usual, "42\n")]).wanted().unwrap().unwrap();
        let state_dir: PathBuf = "/run/user/7/containerd-rootless".into();
        assert_eq!(child, Child { pid: 42, state_dir, detached_network: false });
        let netns = "/run/user/7/containerd-rootless/netns";
        let detached = Machine::user(&[(usual, "42"), (netns, "")]).wanted().unwrap().unwrap();
        assert!(detached.detached_network);
        let mut elsewhere = Machine::user(&[("/state/child_pid", "43")]);
        elsewhere.variables.push((STATE_DIR, "/state"));
        assert_eq!(elsewhere.wanted().unwrap().unwrap().pid, 43);
    }

    #[test]
    fn a_users_namespace_is_known_by_its_map() {
        assert!(is_partial("         0       1000          1\n         1     100000      65536\n"));
        assert!(!is_partial("         0          0 4294967295\n"));
        assert!(!is_partial(""));
    }

    #[test]
    fn without_any_containerd_a_sentence_says_how_to_get_one() {
        let text = Machine::user(&[]).wanted().unwrap_err().to_string();
        for part in [
            "/run/containerd/containerd.sock",
            "child_pid",
            "containerd-rootless-setuptool.sh",
            "--containerd",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let usual = "/run/user/7/containerd-rootless/child_pid";
        for wrong in ["", "0", "-1", "abc"] {
            let error = Machine::user(&[(usual, wrong)]).wanted().unwrap_err();
            assert!(matches!(error, RootlessError::ChildPid { .. }), "{wrong:?}");
        }
    }
}
