//! Port reservers: processes that keep published ports of a container bound on the host.
//!
//! nerdctl (rootful, ≥ 2.1.6) starts `sleep infinity` with the listening sockets, so that other programs see the ports
//! as taken, and writes its pid to `/run/nerdctl/<namespace>/<id>/port-reserver.pid`.
//! We do the same, in the same place, so each of us ends what the other started. Source: nerdctl
//! `pkg/ocihook/ocihook.go`.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use names::{ContainerId, Namespace};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::{NetworkingError, Result};

const PID_FILE: &str = "port-reserver.pid";

/// nerdctl makes this one anew, and fails if it is there.
const NEW_PID_FILE: &str = ".port-reserver.pid";

/// What a reserver's command line is, as in `/proc/<pid>/cmdline`.
const COMMAND_LINE: &[u8] = b"sleep\0infinity\0";

/// Starts a process that keeps `sockets` open, and writes its pid down. It outlives us: it ends by [`end`], or by
/// nerdctl.
///
/// # Errors
/// If it cannot be started or its pid not be written; then it does not run.
pub(crate) fn start(
    run_dir: &Path,
    namespace: &Namespace,
    id: &ContainerId,
    sockets: &[OwnedFd],
) -> Result<()> {
    let directory = directory(run_dir, namespace, id);
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| NetworkingError::Io { doing, path, source }
    };
    fs::create_dir_all(&directory).map_err(failed("create", &directory))?;
    for socket in sockets {
        // From now on every program that we start would get it; the next one is the only one.
        fcntl_setfd(socket, FdFlags::empty())
            .map_err(|errno| failed("keep a port open for", &directory)(errno.into()))?;
    }
    let mut reserver = Command::new("sleep")
        .arg("infinity")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A terminal's Ctrl-C is not for it.
        .process_group(0)
        .spawn()
        .map_err(failed("run", Path::new("sleep")))?;
    let (new, final_path) = (directory.join(NEW_PID_FILE), directory.join(PID_FILE));
    let written = fs::write(&new, reserver.id().to_string())
        .and_then(|()| fs::rename(&new, &final_path))
        .map_err(failed("write", &final_path));
    if written.is_err() {
        // Its ports would stay taken, and nobody would know why.
        let _ = reserver.kill();
        let _ = reserver.wait();
    }
    written
}

fn directory(run_dir: &Path, namespace: &Namespace, id: &ContainerId) -> PathBuf {
    run_dir.join(namespace.as_str()).join(id.as_str())
}

/// Ends the port reserver of a container, if it has one, and deletes its directory. A pid file whose process is gone
/// would make the next `nerdctl stop` fail.
///
/// # Errors
/// If the process cannot be signalled or the directory not be deleted.
pub(crate) fn end(run_dir: &Path, namespace: &Namespace, id: &ContainerId) -> Result<()> {
    let directory = directory(run_dir, namespace, id);
    let pid_file = directory.join(PID_FILE);
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| NetworkingError::Io { doing, path, source }
    };
    match fs::read_to_string(&pid_file) {
        Ok(pid) => kill_reserver(pid.trim()).map_err(failed("kill the process in", &pid_file))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("read", &pid_file)(error)),
    }
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("delete", &directory)(error))
        }
        _ => Ok(()),
    }
}

/// Kills the process if it still is a reserver: after a reboot, or long enough, its number belongs to somebody else.
fn kill_reserver(pid: &str) -> io::Result<()> {
    let Some(pid) = pid.parse().ok().filter(|pid| *pid > 1).and_then(Pid::from_raw) else {
        return Ok(());
    };
    // The descriptor keeps the number from being reused between the look and the signal.
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(Errno::SRCH) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    let command_line =
        fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    if !command_line.ends_with(COMMAND_LINE) {
        return Ok(());
    }
    match pidfd_send_signal(&process, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn reserve(run_dir: &Path, pid: &str) -> PathBuf {
        let directory = run_dir.join("default/abc");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(PID_FILE), pid).unwrap();
        directory
    }

    /// The kernel lets the parent go on a moment before the new program's arguments are in place.
    fn until_it_has_its_command_line(pid: u32) {
        let path = format!("/proc/{pid}/cmdline");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !fs::read(&path).unwrap().ends_with(COMMAND_LINE) {
            assert!(std::time::Instant::now() < deadline, "{path} stays empty");
            std::thread::yield_now();
        }
    }

    fn end_it(run_dir: &Path) {
        end(run_dir, &Namespace::default(), &"abc".parse().unwrap()).unwrap();
    }

    #[test]
    fn a_reserver_is_killed_and_its_directory_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let mut reserver = Command::new("sleep").arg("infinity").spawn().unwrap();
        until_it_has_its_command_line(reserver.id());
        let directory = reserve(dir.path(), &reserver.id().to_string());
        end_it(dir.path());
        assert!(!reserver.wait().unwrap().success());
        assert!(!directory.exists());
        end_it(dir.path());
    }

    #[test]
    fn ports_stay_taken_until_their_reserver_ends() {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sockets = [OwnedFd::from(listener)];
        start(dir.path(), &Namespace::default(), &"abc".parse().unwrap(), &sockets).unwrap();
        drop(sockets);
        let pid = fs::read_to_string(dir.path().join("default/abc").join(PID_FILE)).unwrap();
        until_it_has_its_command_line(pid.parse().unwrap());
        assert!(TcpListener::bind(address).is_err());
        end_it(dir.path());
        // The kernel closes a killed process's sockets when it gets to it.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while TcpListener::bind(address).is_err() {
            assert!(std::time::Instant::now() < deadline, "{address} stays taken");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_process_that_is_no_reserver_lives_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
        let directory = reserve(dir.path(), &other.id().to_string());
        end_it(dir.path());
        let still_running = other.try_wait().unwrap().is_none();
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(still_running);
        assert!(!directory.exists());
    }

    #[test]
    fn damaged_and_dangerous_pids_are_ignored() {
        let dir = tempfile::tempdir().unwrap();
        for pid in ["", "x", "0", "1", "-1", "4194305"] {
            reserve(dir.path(), pid);
            end_it(dir.path());
        }
    }
}
