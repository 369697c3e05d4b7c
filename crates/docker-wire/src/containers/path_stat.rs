//! The header `X-Docker-Container-Path-Stat` of archive requests.
//!
//! Source: moby `api/types/container/container.go` (`PathStat`), `daemon/server/router/container/copy.go`; Go
//! `io/fs/fs.go`, `os/stat_linux.go` for the mode.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

/// What a path in a container is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PathStat {
    /// The last part of the path.
    pub name: String,
    /// In bytes.
    pub size: i64,
    /// A file mode of Go: see [`go_file_mode`].
    pub mode: u32,
    /// RFC 3339.
    pub mtime: String,
    /// Where a symbolic link leads; else empty.
    pub link_target: String,
}

impl PathStat {
    /// The value of the header: base64 of the JSON.
    ///
    /// # Errors
    /// None in practice: every key is a text.
    pub fn to_header(&self) -> Result<String, serde_json::Error> {
        Ok(STANDARD.encode(serde_json::to_vec(self)?))
    }
}

/// Go's file mode for an `st_mode` of Linux: permissions are the same, everything else stands in other bits.
#[must_use]
pub const fn go_file_mode(st_mode: u32) -> u32 {
    const DIR: u32 = 1 << 31;
    const SYMLINK: u32 = 1 << 27;
    const DEVICE: u32 = 1 << 26;
    const NAMED_PIPE: u32 = 1 << 25;
    const SOCKET: u32 = 1 << 24;
    const SETUID: u32 = 1 << 23;
    const SETGID: u32 = 1 << 22;
    const CHAR_DEVICE: u32 = 1 << 21;
    const STICKY: u32 = 1 << 20;

    let kind = match st_mode & 0o170_000 {
        0o040_000 => DIR,
        0o120_000 => SYMLINK,
        0o060_000 => DEVICE,
        0o020_000 => DEVICE | CHAR_DEVICE,
        0o010_000 => NAMED_PIPE,
        0o140_000 => SOCKET,
        _ => 0,
    };
    let setuid = if st_mode & 0o4000 == 0 { 0 } else { SETUID };
    let setgid = if st_mode & 0o2000 == 0 { 0 } else { SETGID };
    let sticky = if st_mode & 0o1000 == 0 { 0 } else { STICKY };
    (st_mode & 0o777) | kind | setuid | setgid | sticky
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_of_go() {
        for (st_mode, expected) in [
            (0o100_644, 0o644),
            (0o040_755, 0x8000_0000 | 0o755),
            (0o041_777, 0x8010_0000 | 0o777),
            (0o120_777, 0x0800_0000 | 0o777),
            (0o104_755, 0x0080_0000 | 0o755),
            (0o102_755, 0x0040_0000 | 0o755),
            (0o020_620, 0x0420_0000 | 0o620),
            (0o060_660, 0x0400_0000 | 0o660),
            (0o010_600, 0x0200_0000 | 0o600),
            (0o140_600, 0x0100_0000 | 0o600),
        ] {
            assert_eq!(go_file_mode(st_mode), expected, "{st_mode:o}");
        }
    }

    #[test]
    fn the_header_is_base64_of_json() {
        let stat = PathStat {
            name: "a".to_owned(),
            mode: 0o644,
            mtime: crate::time::ZERO.to_owned(),
            ..PathStat::default()
        };
        let header = stat.to_header().unwrap();
        let json = String::from_utf8(STANDARD.decode(header).unwrap()).unwrap();
        assert_eq!(
            json,
            r#"{"name":"a","size":0,"mode":420,"mtime":"0001-01-01T00:00:00Z","linkTarget":""}"#
        );
    }
}
