//! Trees as snapshotters make them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use rustix::fs::{CWD, XattrFlags};
use tokio::sync::mpsc;

use super::*;

struct Case {
    folder: tempfile::TempDir,
}

impl Case {
    /// Directories `new`, `1` (the upper layer) and `2`.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["new", "1", "2"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder }
    }

    fn path(&self, path: &str) -> PathBuf {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap();
    }

    /// Whether the file system of the temporary directory and our rights allow for it.
    fn whiteout(&self, path: &str) -> bool {
        let path = self.path(path);
        rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).is_ok()
    }

    fn opaque(&self, path: &str) -> bool {
        let path = self.path(path);
        fs::create_dir_all(&path).unwrap();
        let directory = fs::File::open(path).unwrap();
        let mark = |name: &str| rustix::fs::fsetxattr(&directory, name, b"y", XattrFlags::empty());
        mark("trusted.overlay.opaque").or_else(|_| mark("user.overlay.opaque")).is_ok()
    }

    fn open(&self, name: &str) -> OwnedFd {
        fs::File::open(self.folder.path().join(name)).unwrap().into()
    }

    fn changes(&self, old: &[&str], whole: bool) -> Vec<String> {
        let old = old.iter().map(|name| self.open(name)).collect();
        let trees = Trees { new: self.open("new"), old, whole };
        let (sender, mut receiver) = mpsc::channel(16);
        walk(&trees, &sender).unwrap();
        drop(sender);
        let mut all = Vec::new();
        while let Some(batch) = receiver.blocking_recv() {
            all.extend(batch.unwrap());
        }
        let letter = |kind| match kind {
            ChangeKind::Modified => 'C',
            ChangeKind::Added => 'A',
            ChangeKind::Deleted => 'D',
        };
        all.iter().map(|change| format!("{} {}", letter(change.kind), change.path)).collect()
    }

    /// In overlay's way: only what is in the upper directory.
    fn layered(&self) -> Vec<String> {
        self.changes(&["1", "2"], false)
    }
}

#[test]
fn parents_come_first_and_names_in_order() {
    let case = Case::new();
    case.write("2/etc/passwd", "old");
    case.write("2/usr/lib/x", "same");
    case.write("new/etc/passwd", "newer");
    case.write("new/etc/apt/sources", "added");
    case.write("new/b", "");
    case.write("new/a/deep/er/file", "");
    assert_eq!(
        case.layered(),
        [
            "A /a",
            "A /a/deep",
            "A /a/deep/er",
            "A /a/deep/er/file",
            "A /b",
            "C /etc",
            "A /etc/apt",
            "A /etc/apt/sources",
            "C /etc/passwd",
        ]
    );
}

#[test]
fn what_was_only_copied_up_is_no_change() {
    let case = Case::new();
    case.write("1/etc/same", "x");
    case.write("new/etc/same", "x");
    let time = fs::metadata(case.path("1/etc/same")).unwrap().modified().unwrap();
    fs::File::options()
        .write(true)
        .open(case.path("new/etc/same"))
        .unwrap()
        .set_modified(time)
        .unwrap();
    assert!(case.layered().is_empty());
    fs::set_permissions(case.path("new/etc/same"), PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(case.layered(), ["C /etc", "C /etc/same"]);
}

#[test]
fn whiteouts_are_deletions_of_what_there_was() {
    let case = Case::new();
    case.write("2/bin/ls", "");
    case.write("2/tmp/x", "");
    case.write("1/keep", "");
    if !case.whiteout("new/bin/ls") {
        return eprintln!("skipped: device nodes cannot be made here");
    }
    assert!(case.whiteout("new/never") && case.whiteout("1/tmp"));
    assert_eq!(case.layered(), ["C /bin", "D /bin/ls"]);
    // The layer above has deleted it, so the container's is new.
    case.write("new/tmp/x", "");
    assert_eq!(case.layered(), ["C /bin", "D /bin/ls", "A /tmp", "A /tmp/x"]);
}

#[test]
fn an_opaque_directory_has_nothing_of_the_image() {
    let case = Case::new();
    case.write("2/dir/gone", "");
    case.write("2/dir/stays", "1");
    case.write("1/dir/also gone", "");
    if !case.opaque("new/dir") {
        return eprintln!("skipped: no extended attributes here");
    }
    case.write("new/dir/stays", "12");
    case.write("new/dir/new", "");
    assert_eq!(
        case.layered(),
        ["C /dir", "D /dir/also gone", "D /dir/gone", "A /dir/new", "C /dir/stays"]
    );
    // One of the image's own hides what is below it, too.
    assert!(case.opaque("1/other"));
    case.write("2/other/hidden", "");
    case.write("new/other/hidden", "");
    assert!(case.layered().contains(&"A /other/hidden".to_owned()));
}

#[test]
fn kinds_of_files_change() {
    let case = Case::new();
    case.write("1/was-file", "");
    case.write("1/was-dir/inside", "");
    case.write("new/was-file/inside", "");
    case.write("new/was-dir", "");
    symlink("/etc", case.path("new/link")).unwrap();
    assert_eq!(
        case.layered(),
        ["A /link", "C /was-dir", "C /was-file", "A /was-file/inside"],
        "a link is not followed"
    );
}

#[test]
fn whole_trees_are_compared_from_both_sides() {
    let case = Case::new();
    case.write("1/etc/gone", "");
    case.write("1/etc/same", "x");
    case.write("1/old/tree/file", "");
    fs::create_dir_all(case.path("new/etc/x").parent().unwrap()).unwrap();
    fs::hard_link(case.path("1/etc/same"), case.path("new/etc/same")).unwrap();
    case.write("new/etc/added", "");
    assert_eq!(
        case.changes(&["1"], true),
        ["C /etc", "A /etc/added", "D /etc/gone", "D /old"],
        "what was in a deleted directory is not told"
    );
    assert_eq!(case.changes(&[], true), ["C /etc", "A /etc/added", "A /etc/same"]);
}

#[test]
fn places_to_mount_on_are_the_runtimes() {
    let case = Case::new();
    for path in ["new/etc/hosts", "new/etc/resolv.conf", "new/dev/console", "new/.dockerenv"] {
        case.write(path, "");
    }
    fs::create_dir_all(case.path("new/proc")).unwrap();
    assert!(case.layered().is_empty());
    case.write("new/etc/mine", "");
    assert_eq!(case.layered(), ["C /etc", "A /etc/mine"]);
}

#[test]
fn a_reader_that_leaves_ends_the_walk() {
    let case = Case::new();
    for number in 0..2 * BATCH {
        case.write(&format!("new/{number}"), "");
    }
    let trees = Trees { new: case.open("new"), old: Vec::new(), whole: true };
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    walk(&trees, &sender).unwrap();
}
