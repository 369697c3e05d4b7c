//! Where a monitor's socket is, and the URI that makes containerd's shim start a monitor.

use std::path::{Path, PathBuf};

use crate::BINARY_KEY;

/// Characters of the container id in a socket's name: 107 bytes are all that a socket path may have.
const ID_IN_SOCKET: usize = 32;

/// The directory of the sockets of one data store (`<data-root>/<hash8>`): `/run/nerdctld/<hash8>` as root,
/// `/run/user/<uid>/nerdctld/<hash8>` otherwise.
///
/// Derived and not configured, because a monitor that containerd's shim starts knows nothing but the data store.
#[must_use]
pub fn runtime_dir(data_store: &Path) -> PathBuf {
    let hash = data_store.file_name().unwrap_or(data_store.as_os_str());
    let uid = rustix::process::geteuid();
    let base = if uid.is_root() {
        PathBuf::from("/run/nerdctld")
    } else {
        PathBuf::from(format!("/run/user/{}/nerdctld", uid.as_raw()))
    };
    base.join(hash)
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
