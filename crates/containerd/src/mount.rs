//! A mount as snapshotters describe it.

use containerd_client::types;

/// One mount. Snapshotters answer them, tasks and diffs take them; containerd 2.2+ has types that
/// only its own mount manager understands (`format/…`, `mkfs/…`), so pass them on unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// `overlay`, `bind`, …
    pub kind: String,
    /// Device or directory.
    pub source: String,
    /// Directory below the root file system; usually empty.
    pub target: String,
    /// As in fstab: `rbind`, `ro`, `upperdir=…`. Their order differs between containerd versions.
    pub options: Vec<String>,
}

impl Mount {
    /// The value of an option `key=value`.
    #[must_use]
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.iter().find_map(|option| option.strip_prefix(key)?.strip_prefix('='))
    }
}

impl From<types::Mount> for Mount {
    fn from(mount: types::Mount) -> Self {
        Self {
            kind: mount.r#type,
            source: mount.source,
            target: mount.target,
            options: mount.options,
        }
    }
}

impl From<Mount> for types::Mount {
    fn from(mount: Mount) -> Self {
        Self {
            r#type: mount.kind,
            source: mount.source,
            target: mount.target,
            options: mount.options,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_by_key() {
        let mount = Mount {
            options: vec!["index=off".into(), "upperdir=/a".into(), "lowerdir=/b:/c".into()],
            ..Mount::default()
        };
        assert_eq!(mount.option("upperdir"), Some("/a"));
        assert_eq!(mount.option("lowerdir"), Some("/b:/c"));
        assert_eq!(mount.option("upper"), None);
    }
}
