//! Where a monitor's socket is, and the URI that makes containerd's shim start a monitor.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::BINARY_KEY;

/// Characters of the container id in a socket's name: 107 bytes are all that a socket path may have.
const ID_IN_SOCKET: usize = 32;

/// The directory of the sockets of one data store (`<data-root>/<hash8>`): `/run/nerdctld/<hash8>` as root,
/// `/run/user/<uid>/nerdctld/<hash8>` otherwise, where the root of a user's own namespaces is that user.
///
/// Derived and not configured, because a monitor that containerd's shim starts knows nothing but the data store.
#[must_use]
pub fn runtime_dir(data_store: &Path) -> PathBuf {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    let hash = data_store.file_name().unwrap_or(data_store.as_os_str());
    let base = BASE.get_or_init(|| {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        base(rustix::process::geteuid().as_raw(), &map, &Path::is_dir)
    });
    base.join(hash)
}

/// The folder of all data stores' sockets. `map` is the text of `/proc/self/uid_map`.
fn base(uid: u32, map: &str, is_dir: &dyn Fn(&Path) -> bool) -> PathBuf {
    let of = |uid: u32| PathBuf::from(format!("/run/user/{uid}"));
    if uid != 0 {
        return of(uid).join("nerdctld");
    }
    // /run/nerdctld may be that of the machine's root, whom the user's root cannot write to. A container with users of its
    // own (LXC) has a map, too, but is a machine: nobody outside has a folder in it.
    let user = outside(map, uid).filter(|user| *user != 0).map(of);
    user.filter(|folder| is_dir(folder)).unwrap_or("/run".into()).join("nerdctld")
}

/// Who `uid` is in the namespace around ours (`user_namespaces(7)`: first inside, first outside, how many).
fn outside(map: &str, uid: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>().ok());
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let offset = uid.checked_sub(inside).filter(|offset| *offset < count)?;
        outside.checked_add(offset)
    })
}

/// The socket of a container's monitor, in [`runtime_dir`] or another directory.
#[must_use]
pub fn socket_path(runtime_dir: &Path, container: &str) -> PathBuf {
    let short = container.get(..ID_IN_SOCKET).unwrap_or(container);
    runtime_dir.join(format!("{short}.sock"))
}

/// The log URI that makes a shim start `helper` as a monitor: for the label `nerdctl/log-uri`, with exactly one query
/// pair (nerdctl's `start` of a container with a terminal demands that; `nerdctl pkg/taskutil`).
#[must_use]
pub fn log_uri(helper: &Path, data_store: &Path) -> String {
    let path = escape(helper, b"/-_.~");
    let value = escape(data_store, b"-_.~");
    format!("binary://{path}?{BINARY_KEY}={value}")
}

/// Percent-encode everything but letters, digits and `plain` (Go's `url.QueryEscape` and `EscapedPath` both read it).
fn escape(path: &Path, plain: &[u8]) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;

    let mut out = String::new();
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_in_a_folder_of_whoever_we_are_outside() {
        let machine = "         0          0 4294967295\n";
        let users = "         0       1000          1\n         1     100000      65536\n";
        let user = |folder: &Path| folder == Path::new("/run/user/1000");
        let nobody = |_: &Path| false;
        for (uid, map, is_dir, expected) in [
            (0, machine, &user as &dyn Fn(&Path) -> bool, "/run/nerdctld"),
            (0, users, &user, "/run/user/1000/nerdctld"),
            (0, "0 100000 65536", &nobody, "/run/nerdctld"),
            (0, "", &user, "/run/nerdctld"),
            (1000, machine, &user, "/run/user/1000/nerdctld"),
        ] {
            assert_eq!(base(uid, map, is_dir), Path::new(expected), "{uid} {map:?}");
        }
        assert_eq!(outside(users, 2), Some(100_001));
        assert_eq!(outside(users, 70_000), None);
    }

    #[test]
    fn the_uri_has_one_pair_and_gos_escapes() {
        let uri = log_uri(
            Path::new("/var/lib/nerdctl/bin/nerdctld"),
            Path::new("/var/lib/nerdctl/1935db59"),
        );
        assert_eq!(
            uri,
            "binary:///var/lib/nerdctl/bin/nerdctld?_NERDCTLD_IO_MONITOR=%2Fvar%2Flib%2Fnerdctl%2F1935db59"
        );
        let uri = log_uri(Path::new("/a b/x"), Path::new("/a&b=c+d%"));
        assert_eq!(uri, "binary:///a%20b/x?_NERDCTLD_IO_MONITOR=%2Fa%26b%3Dc%2Bd%25");
    }

    #[test]
    fn a_socket_path_fits() {
        let id = "0123456789abcdef".repeat(4);
        let path = socket_path(Path::new("/run/user/4294967294/nerdctld/1935db59"), &id);
        assert!(path.ends_with("0123456789abcdef0123456789abcdef.sock"));
        assert!(path.as_os_str().len() < 108);
        assert_eq!(socket_path(Path::new("/r"), "short"), Path::new("/r/short.sock"));
    }
}
