//! Names of file systems, in Docker's spelling.

use std::path::Path;

/// Magic numbers of `statfs(2)` and names that programs search for (moby `daemon/internal/fstype`).
const NAMES: [(u32, &str); 14] = [
    (0x9123_683e, "btrfs"),
    (0xf15f, "ecryptfs"),
    (0xef53, "extfs"),
    (0xf2f5_2010, "f2fs"),
    (0x6573_5546, "fuse"),
    (0x3153_464a, "jfs"),
    (0x6969, "nfs"),
    (0x794c_7630, "overlayfs"),
    (0x8584_58f6, "ramfs"),
    (0x5265_4973, "reiserfs"),
    (0x7371_7368, "squashfs"),
    (0x0102_1994, "tmpfs"),
    (0x5846_5342, "xfs"),
    (0x2fc1_2fc1, "zfs"),
];

/// The file system that `path` is on; `<unknown>` if it cannot be asked, or has no name here.
pub(super) fn name_of(path: &Path) -> String {
    let known = rustix::fs::statfs(path).ok().and_then(|stat| {
        let magic = u64::try_from(stat.f_type).ok()?;
        NAMES.iter().find(|(number, _)| u64::from(*number) == magic)
    });
    known.map_or("<unknown>", |(_, name)| name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_have_names() {
        assert_eq!(name_of(Path::new("/nowhere/at/all")), "<unknown>");
        assert_eq!(name_of(Path::new("/proc")), "<unknown>", "nobody stores snapshots there");
        assert!(NAMES.iter().any(|(_, name)| *name == "extfs"), "kind compares with this word");
    }
}
