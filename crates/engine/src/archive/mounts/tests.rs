//! Against the kernel, as far as it lets us mount.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// Two layers, an upper directory, and the mount that a snapshotter makes of them.
struct Layers {
    temp: tempfile::TempDir,
    mount: Mount,
}

fn layers() -> Layers {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    for layer in ["a", "b", "upper", "work", "run", "volume/sub"] {
        fs::create_dir_all(path(layer)).unwrap();
    }
    fs::create_dir(path("a/etc")).unwrap();
    fs::write(path("a/etc/both"), "upper layer").unwrap();
    fs::create_dir(path("b/etc")).unwrap();
    fs::write(path("b/etc/both"), "lower layer").unwrap();
    fs::write(path("b/etc/lower"), "lower layer").unwrap();
    fs::write(path("upper/own"), "the container's").unwrap();
    fs::write(path("volume/sub/file"), "the volume's").unwrap();
    symlink("/etc", path("upper/link")).unwrap();
    let text = |name: &str| path(name).display().to_string();
    let options = vec![
        "index=off".to_owned(),
        format!("workdir={}", text("work")),
        format!("upperdir={}", text("upper")),
        format!("lowerdir={}:{}", text("a"), text("b")),
    ];
    let mount =
        Mount { kind: "overlay".into(), source: "overlay".into(), options, ..Mount::default() };
    Layers { temp, mount }
}

impl Layers {
    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn bind(&self, destination: &str, read_only: bool) -> Bind {
        Bind {
            source: self.path("volume"),
            destination: destination.into(),
            read_only,
            part: None,
            asked_for: true,
        }
    }

    /// `None`, with a word, where this machine does not let us mount.
    fn assemble(&self, binds: &[Bind], access: Access) -> Option<Tree> {
        match assemble(std::slice::from_ref(&self.mount), binds, access, &self.path("run")) {
            Ok(root) => Some(Tree::new(root)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                eprintln!("skipped: no right to mount");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn leaves_nothing(&self) {
        assert_eq!(fs::read_dir(self.path("run")).unwrap().count(), 0);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = self.temp.path().display().to_string();
        assert!(!mounts.contains(&ours), "{mounts}");
    }
}

fn read(tree: &Tree, path: &str) -> Option<String> {
    let file = tree.follow(Path::new(path)).ok()?;
    Some(fs::read_to_string(file.by_number()).unwrap())
}

fn write(tree: &Tree, directory: &str, name: &str) -> Result<(), Errno> {
    let directory = tree.directory(Path::new(directory)).unwrap();
    let flags = OFlags::CREATE | OFlags::WRONLY;
    rustix::fs::openat(directory, name, flags, Mode::RUSR).map(drop)
}

#[test]
fn a_root_to_read() {
    let layers = layers();
    let Some(tree) = layers.assemble(&[], Access::Read) else { return };
    assert_eq!(read(&tree, "/etc/both").as_deref(), Some("upper layer"));
    assert_eq!(read(&tree, "/link/lower").as_deref(), Some("lower layer"));
    assert_eq!(read(&tree, "/own").as_deref(), Some("the container's"));
    assert_eq!(write(&tree, "/etc", "new"), Err(Errno::ROFS));
    layers.leaves_nothing();
}

#[test]
fn a_root_to_write() {
    let layers = layers();
    let Some(tree) = layers.assemble(&[], Access::Write) else { return };
    write(&tree, "/link", "new").unwrap();
    assert!(layers.path("upper/etc/new").exists());
    drop(tree);
    layers.leaves_nothing();
}

#[test]
fn volumes_are_in_it_and_the_root_is_left_as_it_was() {
    let layers = layers();
    let binds = [layers.bind("/data", false), layers.bind("/link/ro", true)];
    for access in [Access::Read, Access::Write] {
        fs::create_dir_all(layers.path("upper/etc/ro")).unwrap();
        let Some(tree) = layers.assemble(&binds, access) else { return };
        assert_eq!(read(&tree, "/data/sub/file").as_deref(), Some("the volume's"));
        assert_eq!(read(&tree, "/etc/ro/sub/file").as_deref(), Some("the volume's"));
        write(&tree, "/data/sub", "new").unwrap();
        assert_eq!(write(&tree, "/etc/ro", "new"), Err(Errno::ROFS));
        assert!(!layers.path("upper/data").exists(), "the mount point is in no layer");
        layers.leaves_nothing();
    }
    assert!(layers.path("volume/sub/file").exists());
}

#[test]
fn nothing_is_written_below_what_cannot_be_mounted() {
    let layers = layers();
    if layers.assemble(&[], Access::Read).is_none() {
        return;
    }
    let gone = Bind { source: layers.path("gone"), ..layers.bind("/etc", false) };
    let nowhere = Bind { destination: "/nowhere".into(), ..gone.clone() };
    let of_every_container = Bind { asked_for: false, ..gone.clone() };
    let run = layers.path("run");
    let open = |bind: Bind, access| {
        assemble(std::slice::from_ref(&layers.mount), &[bind], access, &run).map(drop)
    };
    assert_eq!(open(gone.clone(), Access::Write).unwrap_err().kind(), io::ErrorKind::NotFound);
    for (bind, access) in
        [(gone, Access::Read), (nowhere, Access::Write), (of_every_container, Access::Write)]
    {
        open(bind, access).unwrap();
    }
    layers.leaves_nothing();
}

#[test]
fn older_kernels_mount_many_layers_as_well() {
    let layers = layers();
    if layers.assemble(&[], Access::Read).is_none() {
        return;
    }
    let place = Place::new(&layers.path("run")).unwrap();
    Overlay::of(&layers.mount, Access::Read, None).unwrap().mount_at(&place.root()).unwrap();
    let tree = Tree::new(place.take().unwrap());
    assert_eq!(read(&tree, "/etc/both").as_deref(), Some("upper layer"));
    assert_eq!(write(&tree, "/etc", "new"), Err(Errno::ROFS));
    layers.leaves_nothing();
}

#[test]
fn mounts_below_a_source_stay_on_the_host() {
    let layers = layers();
    let below = layers.path("volume/below");
    fs::create_dir(&below).unwrap();
    if mount::mount("none", &below, "tmpfs", MountFlags::empty(), None).is_err() {
        eprintln!("skipped: no right to mount");
        return;
    }
    fs::write(below.join("file"), "below").unwrap();
    let tree = layers.assemble(&[layers.bind("/data", false)], Access::Read).unwrap();
    let seen = read(&tree, "/data/below/file");
    drop(tree);
    let still = fs::read_to_string(below.join("file"));
    mount::unmount(&below, UnmountFlags::empty()).unwrap();
    assert_eq!(seen.as_deref(), Some("below"));
    assert_eq!(still.unwrap(), "below");
    layers.leaves_nothing();
}

#[test]
fn a_plain_directory_is_a_root_too() {
    let layers = layers();
    let root = Mount {
        kind: "bind".into(),
        source: layers.path("b").display().to_string(),
        options: vec!["rbind".into(), "rw".into()],
        ..Mount::default()
    };
    let run = layers.path("run");
    let open = |binds: &[Bind]| assemble(std::slice::from_ref(&root), binds, Access::Write, &run);
    let Ok(tree) = open(&[layers.bind("/data", false)]).map(Tree::new) else {
        eprintln!("skipped: no right to mount");
        return;
    };
    assert_eq!(read(&tree, "/etc/both").as_deref(), Some("lower layer"));
    assert_eq!(read(&tree, "/data/sub/file").as_deref(), Some("the volume's"));
    layers.leaves_nothing();
}

#[test]
fn what_a_crash_left_is_taken_away() {
    let layers = layers();
    let Ok(place) = Place::new(&layers.path("run")) else {
        eprintln!("skipped: no right to mount");
        return;
    };
    std::mem::forget(place);
    assert_eq!(remove_left_places(&layers.path("run")).unwrap(), 1);
    layers.leaves_nothing();
}
