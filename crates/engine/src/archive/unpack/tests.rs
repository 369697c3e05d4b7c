//! Archives as programs make them, as people wish them, and as attackers do.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::CWD;
use tar::Header;

use super::*;
use crate::archive::pack::{self, Start};

/// A directory that is a container's root, and something beside it that no archive may touch.
struct Ground {
    temp: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("root/d")).unwrap();
        fs::create_dir_all(temp.path().join("root/etc")).unwrap();
        fs::create_dir_all(temp.path().join("outside")).unwrap();
        fs::write(temp.path().join("outside/secret"), "secret").unwrap();
        Self { temp }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join("root").join(name)
    }

    fn tree(&self) -> Tree {
        let root = rustix::fs::open(self.path(""), OFlags::PATH, Mode::empty()).unwrap();
        Tree::new(root)
    }

    fn unpack(&self, archive: &[u8], options: Options) -> Result<(), UnpackError> {
        unpack(&self.tree(), Path::new("/d"), archive, options)
    }

    fn outside_is_untouched(&self) {
        let names: Vec<_> = fs::read_dir(self.temp.path().join("outside")).unwrap().collect();
        assert_eq!(names.len(), 1);
        let secret = self.temp.path().join("outside/secret");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
        assert_eq!(fs::metadata(secret).unwrap().nlink(), 1);
        assert_eq!(fs::read_dir(self.temp.path()).unwrap().count(), 2);
    }
}

/// One entry: name, type, link and content, as they stand, whatever a proper program would say.
fn raw(name: &str, kind: u8, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(content.len() as u64);
    header.set_device_major(1).unwrap();
    header.set_device_minor(3).unwrap();
    header.set_cksum();
    let padding = content.len().next_multiple_of(512) - content.len();
    [header.as_bytes(), content, &vec![0; padding]].concat()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn what_is_packed_is_unpacked_the_same() {
    let ground = Ground::new();
    let long = format!("etc/{}/{}", "x".repeat(120), "ü".repeat(60));
    fs::create_dir_all(ground.path(&long)).unwrap();
    fs::write(ground.path(&long).join("deep"), vec![7; 300_000]).unwrap();
    fs::write(ground.path("etc/first"), "linked").unwrap();
    fs::hard_link(ground.path("etc/first"), ground.path("etc/second")).unwrap();
    symlink("/first", ground.path("etc/link")).unwrap();
    symlink("y".repeat(200), ground.path("etc/longlink")).unwrap();
    fs::set_permissions(ground.path("etc/first"), fs::Permissions::from_mode(0o4750)).unwrap();
    rustix::fs::mknodat(CWD, ground.path("etc/fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(ground.path("etc/socket")).unwrap();
    let has_attributes = rustix::fs::setxattr(
        ground.path("etc/first"),
        "user.test",
        b"a\nb\0c",
        XattrFlags::empty(),
    )
    .is_ok();
    date(CWD, ground.path("etc/first").as_os_str(), (-12, 0)).unwrap();
    date(CWD, ground.path("etc").as_os_str(), (1_234_567_890, 0)).unwrap();
    if is_root() {
        std::os::unix::fs::chown(ground.path("etc/link"), Some(3_000_000), Some(4)).ok();
    }

    let mut archive = Vec::new();
    let file = ground.tree().look_at(Path::new("/etc")).unwrap();
    pack::pack(&file, Start::Named(b"copy"), &mut archive).unwrap();
    ground.unpack(&archive, Options::default()).unwrap();

    let copy = |name: &str| ground.path("d/copy").join(name);
    let deep = long.strip_prefix("etc/").unwrap();
    assert_eq!(fs::read(copy(deep).join("deep")).unwrap(), vec![7; 300_000]);
    let first = fs::metadata(copy("first")).unwrap();
    assert_eq!((first.ino(), first.nlink()), (fs::metadata(copy("second")).unwrap().ino(), 2));
    assert_eq!((first.mode() & 0o7777, first.mtime()), (0o4750, -12));
    assert_eq!(fs::read_link(copy("link")).unwrap(), Path::new("/first"));
    assert_eq!(fs::read_link(copy("longlink")).unwrap().as_os_str().len(), 200);
    assert_eq!(
        fs::symlink_metadata(copy("link")).unwrap().uid(),
        fs::symlink_metadata(ground.path("etc/link")).unwrap().uid()
    );
    assert_eq!(fs::metadata(ground.path("d/copy")).unwrap().mtime(), 1_234_567_890);
    assert!(!copy("socket").exists());
    assert!(copy("fifo").exists());
    if has_attributes {
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(copy("first"), "user.test", &mut value).unwrap();
        assert_eq!(&value[..length], b"a\nb\0c");
    }
}

#[test]
fn a_directory_without_itself() {
    let ground = Ground::new();
    fs::write(ground.path("etc/a"), "1").unwrap();
    let names = |start| {
        let mut archive = Vec::new();
        let file = ground.tree().look_at(Path::new("/etc")).unwrap();
        pack::pack(&file, start, &mut archive).unwrap();
        let mut archive = tar::Archive::new(&archive[..]);
        let names = archive
            .entries()
            .unwrap()
            .map(|entry| String::from_utf8(entry.unwrap().path_bytes().into_owned()).unwrap());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(Start::Contents), ["a"]);
    assert_eq!(names(Start::Named(b".")), ["./", "./a"]);
    assert_eq!(names(Start::Named(b"/")), ["/", "/a"]);
}

#[test]
fn names_that_lead_outside_are_refused() {
    for name in ["../escaped", "a/../../escaped", "..", "./../outside/secret"] {
        let ground = Ground::new();
        let error = ground.unpack(&raw(name, b'0', "", b"x"), Options::default()).unwrap_err();
        assert_eq!(error.to_string(), format!("invalid entry name {name:?}"));
        ground.outside_is_untouched();
    }
    let ground = Ground::new();
    ground.unpack(&raw("/absolute", b'0', "", b"x"), Options::default()).unwrap();
    assert!(ground.path("d/absolute").exists());
}

#[test]
fn links_are_followed_in_the_container_and_nowhere_else() {
    for (link, lands) in
        [("/etc", "etc/file"), ("../../../../../../etc", "etc/file"), ("../etc", "etc/file")]
    {
        let ground = Ground::new();
        let archive = [raw("l", b'2', link, b""), raw("l/file", b'0', "", b"x")].concat();
        ground.unpack(&archive, Options::default()).unwrap();
        assert!(ground.path(lands).exists(), "{link}");
        ground.outside_is_untouched();
    }
    let ground = Ground::new();
    let outside = ground.temp.path().join("outside").display().to_string();
    let archive = [raw("l", b'2', &outside, b""), raw("l/file", b'0', "", b"x")].concat();
    // There is nothing of that name in the container.
    assert!(ground.unpack(&archive, Options::default()).is_err());
    ground.outside_is_untouched();
    // The last part is replaced, not followed.
    let ground = Ground::new();
    symlink(ground.temp.path().join("outside/secret"), ground.path("d/file")).unwrap();
    ground.unpack(&raw("file", b'0', "", b"x"), Options::default()).unwrap();
    assert_eq!(fs::read_to_string(ground.path("d/file")).unwrap(), "x");
    ground.outside_is_untouched();
}

#[test]
fn hard_links_lead_nowhere_else() {
    let ground = Ground::new();
    let error = ground.unpack(&raw("h", b'1', "../etc/x", b""), Options::default()).unwrap_err();
    assert_eq!(error.to_string(), "invalid hardlink target \"../etc/x\"");
    symlink(ground.temp.path().join("outside"), ground.path("d/l")).unwrap();
    assert!(ground.unpack(&raw("h", b'1', "l/secret", b""), Options::default()).is_err());
    ground.outside_is_untouched();
}

#[test]
fn devices_are_made_but_not_opened() {
    if !is_root() {
        eprintln!("skipped: only root makes devices");
        return;
    }
    let ground = Ground::new();
    let archive = [raw("null", b'3', "", b""), raw("fifo", b'6', "", b"")].concat();
    ground.unpack(&archive, Options::default()).unwrap();
    let null = fs::symlink_metadata(ground.path("d/null")).unwrap();
    assert_eq!((null.mode(), null.rdev()), (0o020_644, makedev(1, 3)));
    // A file of the same name replaces it, and is not written into it.
    ground.unpack(&raw("fifo", b'0', "", b"x"), Options::default()).unwrap();
    assert_eq!(fs::read_to_string(ground.path("d/fifo")).unwrap(), "x");
}

#[test]
fn directories_are_merged_and_other_things_replaced() {
    let ground = Ground::new();
    fs::create_dir_all(ground.path("d/sub/below/deeper")).unwrap();
    fs::write(ground.path("d/sub/below/file"), "x").unwrap();
    fs::write(ground.path("d/file"), "old").unwrap();
    let keep = Options { keep_kinds: true, ..Options::default() };
    let text = |archive: &[u8]| ground.unpack(archive, keep).unwrap_err().to_string();
    assert_eq!(
        text(&raw("sub", b'0', "", b"")),
        "cannot overwrite directory \"sub\" with non-directory \"/d\""
    );
    assert_eq!(
        text(&raw("file", b'5', "", b"")),
        "cannot overwrite non-directory \"file\" with directory \"/d\""
    );
    ground.unpack(&raw("sub/", b'5', "", b""), keep).unwrap();
    assert!(ground.path("d/sub/below/file").exists(), "merged");
    ground.unpack(&raw("sub", b'0', "", b"new"), Options::default()).unwrap();
    assert_eq!(fs::read_to_string(ground.path("d/sub")).unwrap(), "new");
    ground.unpack(&raw("./", b'5', "", b""), Options::default()).unwrap();
}

#[test]
fn everything_belongs_to_the_given_owner() {
    if !is_root() {
        eprintln!("skipped: only root gives files away");
        return;
    }
    let ground = Ground::new();
    let archive = [
        raw("file", b'0', "", b""),
        raw("sub", b'5', "", b""),
        raw("link", b'2', "x", b""),
        raw("implied/file", b'0', "", b""),
    ]
    .concat();
    let options = Options { owner: Some((12, 34)), ..Options::default() };
    ground.unpack(&archive, options).unwrap();
    for name in ["file", "sub", "link", "implied/file"] {
        let found = fs::symlink_metadata(ground.path("d").join(name)).unwrap();
        assert_eq!((found.uid(), found.gid()), (12, 34), "{name}");
    }
    let implied = fs::metadata(ground.path("d/implied")).unwrap();
    assert_eq!((implied.uid(), implied.mode() & 0o777), (0, 0o755));
}

#[test]
fn archives_that_are_none_say_what_is_wrong() {
    let ground = Ground::new();
    let whole = raw("file", b'0', "", b"content");
    let text = |archive: &[u8]| ground.unpack(archive, Options::default()).unwrap_err().to_string();
    assert_eq!(text(&whole[..514]), "unexpected EOF");
    assert_eq!(text(&whole[..200]), "unexpected EOF");
    assert_eq!(text(&[b'x'; 1024]), "archive/tar: invalid tar header");
    assert_eq!(text(&raw("odd", b'Z', "", b"")), "unhandled tar header type 90");
    // The size of an entry is no promise that so much is allocated.
    let mut huge = Header::new_ustar();
    huge.as_old_mut().name[0] = b'h';
    huge.set_size(0o7777_7777_7777);
    huge.set_mode(0o600);
    huge.set_uid(0);
    huge.set_gid(0);
    huge.set_mtime(0);
    huge.set_cksum();
    assert_eq!(text(huge.as_bytes()), "unexpected EOF");
    ground.outside_is_untouched();
}

#[test]
fn sparse_files_of_gnu_tar_keep_their_holes() {
    for format in ["gnu", "posix", "oldgnu"] {
        let ground = Ground::new();
        let source = ground.path("etc/sparse");
        let mut file = fs::File::create(&source).unwrap();
        for offset in [0, 3 << 20, 9 << 20] {
            file.seek(SeekFrom::Start(offset)).unwrap();
            file.write_all(&[1; 4096]).unwrap();
        }
        file.set_len(10 << 20).unwrap();
        let made = std::process::Command::new("tar")
            .args(["--sparse", "--format", format, "-C"])
            .arg(ground.path("etc"))
            .args(["-cf", "-", "sparse"])
            .output();
        let Ok(made) = made else {
            eprintln!("skipped: no tar");
            return;
        };
        assert!(made.stdout.len() < 1 << 20, "{format}");
        ground.unpack(&made.stdout, Options::default()).unwrap();
        assert_eq!(fs::read(ground.path("d/sparse")).unwrap(), fs::read(&source).unwrap());
        let blocks = fs::metadata(ground.path("d/sparse")).unwrap().blocks();
        assert!(blocks * 512 < 1 << 20, "{format}: {blocks} blocks");
    }
}

/// A process of the container that turns a directory into a link to the outside and back, as fast as it can.
#[test]
fn a_race_with_a_link_leads_nowhere() {
    let ground = Ground::new();
    let outside = ground.temp.path().join("outside");
    let relative = "../../outside";
    fs::create_dir(ground.path("d/dir")).unwrap();
    symlink(&outside, ground.path("d/absolute")).unwrap();
    symlink(relative, ground.path("d/relative")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let exchange = |other: &str| {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let (dir, other) = (ground.path("d/dir"), ground.path(other));
                let _ = rustix::fs::renameat_with(CWD, dir, CWD, other, flags);
            };
            while !stop.load(Ordering::Relaxed) {
                for other in ["d/absolute", "d/absolute", "d/relative", "d/relative"] {
                    exchange(other);
                }
            }
        });
        let archive = [
            raw("dir/file", b'0', "", b"x"),
            raw("dir/secret", b'0', "", b"x"),
            raw("dir/made/below", b'5', "", b""),
            raw("dir/node", b'6', "", b""),
            raw("dir/link", b'1', "dir/secret", b""),
        ];
        for _ in 0..400 {
            for entry in &archive {
                // It fails whenever the link is there.
                let _ = ground.unpack(entry, Options::default());
            }
            let tree = ground.tree();
            if let Ok(found) = tree.follow(Path::new("/d/dir/secret")) {
                assert_ne!(found.stat.st_size, 6, "the secret was reached");
            }
            let mut packed = Vec::new();
            let file = tree.look_at(Path::new("/d")).unwrap();
            pack::pack(&file, Start::Named(b"d"), &mut packed).unwrap();
            let mut packed = tar::Archive::new(&packed[..]);
            for entry in packed.entries().unwrap() {
                let mut content = String::new();
                entry.unwrap().read_to_string(&mut content).unwrap();
                assert_ne!(content, "secret", "the secret was read");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    ground.outside_is_untouched();
}
