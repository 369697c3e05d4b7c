//! One directory or file of an image, as a mount of its own.
//!
//! The runtime mounts what a snapshotter describes, and it cannot be told "only this directory of it". But the directory
//! of an overlay is the overlay of the layers' directories of that path, as long as no layer says that what lies below
//! is gone. So the way is walked in each layer, links included, and layers never change afterwards.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use containerd::Mount;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::layers::{MAX_LINKS, follow, is_marked, open, refuse, split_lower};

/// What one layer has at a path.
enum InLayer {
    /// A directory; whether it hides what is below it.
    Directory { hides_below: bool },
    /// Anything else that can be mounted.
    File,
    /// The part at this position is a link.
    Link(usize, PathBuf),
    /// Nothing; whether layers below count.
    Nothing { hides_below: bool },
}

/// What is at `subpath` (relative, clean or not) in the image that `mounts` describe.
///
/// # Errors
/// `NotFound`; `Unsupported` where only the kernel knows what the layers mean.
pub(crate) fn narrow(mounts: &[Mount], subpath: &str) -> io::Result<Mount> {
    let [mount] = mounts else {
        let text = format!("the snapshotter gives {} mounts instead of one", mounts.len());
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    };
    // As if the root were a link to it.
    let mut parts = follow(&[OsString::new()], 0, subpath.as_ref());
    if parts.is_empty() {
        return Ok(mount.clone());
    }
    let layers = match mount.kind.as_str() {
        "bind" => vec![PathBuf::from(&mount.source)],
        "overlay" => split_lower(mount.option("lowerdir").unwrap_or_default()),
        kind => {
            let text = format!("a part of an image cannot be mounted with {kind}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
    };
    for _ in 0..MAX_LINKS {
        match merge(&layers, &parts)? {
            Merged::Link(at, target) => parts = follow(&parts, at, &target),
            Merged::File(path) => return Ok(bind(&path)),
            Merged::Directories(directories) => return together(mount, &directories),
        }
    }
    Err(Errno::LOOP.into())
}

enum Merged {
    Directories(Vec<PathBuf>),
    File(PathBuf),
    Link(usize, PathBuf),
}

fn merge(layers: &[PathBuf], parts: &[OsString]) -> io::Result<Merged> {
    let mut directories = Vec::new();
    for layer in layers {
        let here = || parts.iter().fold(layer.clone(), |path, part| path.join(part));
        match look(layer, parts)? {
            InLayer::Directory { hides_below } => {
                directories.push(here());
                if hides_below {
                    break;
                }
            }
            InLayer::Nothing { hides_below: false } => {}
            InLayer::Nothing { hides_below: true } => break,
            // Hidden by a directory of the same name above.
            InLayer::File | InLayer::Link(..) if !directories.is_empty() => break,
            InLayer::File => return Ok(Merged::File(here())),
            InLayer::Link(at, target) => return Ok(Merged::Link(at, target)),
        }
    }
    if directories.is_empty() {
        return Err(Errno::NOENT.into());
    }
    Ok(Merged::Directories(directories))
}

fn look(layer: &PathBuf, parts: &[OsString]) -> io::Result<InLayer> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory: OwnedFd = rustix::fs::openat(CWD, layer, flags, Mode::empty())?;
    let mut hides_below = false;
    for (at, name) in parts.iter().enumerate() {
        let stat = match rustix::fs::statat(&directory, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW)
        {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(InLayer::Nothing { hides_below }),
            Err(errno) => return Err(errno.into()),
        };
        let is_last = at + 1 == parts.len();
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&directory, name.as_os_str(), Vec::new())?;
                let target = std::os::unix::ffi::OsStringExt::from_vec(target.into_bytes());
                return Ok(InLayer::Link(at, OsString::into(target)));
            }
            FileType::Directory => {
                let next = open(directory.as_fd(), name, OFlags::DIRECTORY)?;
                refuse(&next, "redirect")?;
                hides_below |= is_marked(&next, "opaque")?;
                directory = next;
            }
            // A whiteout, or no way to what is below it.
            FileType::CharacterDevice if stat.st_rdev == 0 => {
                return Ok(InLayer::Nothing { hides_below: true });
            }
            _ if is_last => return Ok(InLayer::File),
            _ => return Ok(InLayer::Nothing { hides_below: true }),
        }
    }
    Ok(InLayer::Directory { hides_below })
}

fn together(mount: &Mount, directories: &[PathBuf]) -> io::Result<Mount> {
    if let [only] = directories {
        return Ok(bind(only));
    }
    let text = |path: &PathBuf| {
        let escaped = path.to_str()?.replace('\\', "\\\\").replace(':', "\\:");
        Some(escaped)
    };
    let lower: Option<Vec<String>> = directories.iter().map(text).collect();
    let lower = lower.ok_or(io::ErrorKind::InvalidFilename)?.join(":");
    let options = mount.options.iter().filter(|option| !option.starts_with("lowerdir="));
    let options = options.cloned().chain([format!("lowerdir={lower}")]).collect();
    Ok(Mount { options, ..mount.clone() })
}

fn bind(path: &Path) -> Mount {
    Mount {
        kind: "bind".to_owned(),
        source: path.display().to_string(),
        options: vec!["rbind".to_owned(), "ro".to_owned()],
        ..Mount::default()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Layers `1` (topmost), `2`, `3`, each with a directory `d`.
    fn three() -> (tempfile::TempDir, Mount) {
        let temp = tempfile::tempdir().unwrap();
        let paths = ["1", "2", "3"].map(|layer| temp.path().join(layer));
        for path in &paths {
            fs::create_dir_all(path.join("d")).unwrap();
        }
        let lower = paths.map(|path| path.display().to_string()).join(":");
        let options = vec!["index=off".to_owned(), format!("lowerdir={lower}")];
        (temp, Mount { kind: "overlay".into(), options, ..Mount::default() })
    }

    fn narrowed(mount: &Mount, subpath: &str) -> io::Result<Mount> {
        narrow(std::slice::from_ref(mount), subpath)
    }

    #[test]
    fn a_directory_of_all_layers_is_an_overlay() {
        let (temp, mount) = three();
        let found = narrowed(&mount, "./d/").unwrap();
        let path = |layer: &str| temp.path().join(layer).join("d").display().to_string();
        assert_eq!(found.kind, "overlay");
        assert_eq!(found.option("lowerdir").unwrap(), [path("1"), path("2"), path("3")].join(":"));
        assert_eq!(found.options[0], "index=off");
        assert_eq!(narrowed(&mount, "").unwrap(), mount);
    }

    #[test]
    fn one_directory_or_file_is_a_bind_mount() {
        let (temp, mount) = three();
        fs::create_dir(temp.path().join("2/d/e")).unwrap();
        fs::write(temp.path().join("3/d/file"), "x").unwrap();
        let found = narrowed(&mount, "d/e").unwrap();
        assert_eq!(
            (found.kind.as_str(), found.source),
            ("bind", temp.path().join("2/d/e").display().to_string())
        );
        let found = narrowed(&mount, "d/file").unwrap();
        assert_eq!(found.source, temp.path().join("3/d/file").display().to_string());
        for missing in ["nothing", "d/file/below"] {
            let error = narrowed(&mount, missing).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{missing}");
        }
    }

    #[test]
    fn links_stay_in_the_image() {
        let (temp, mount) = three();
        fs::create_dir(temp.path().join("3/d/e")).unwrap();
        symlink("/d/e", temp.path().join("1/link")).unwrap();
        symlink("../../../../etc", temp.path().join("1/out")).unwrap();
        symlink("/loop", temp.path().join("1/loop")).unwrap();
        let found = narrowed(&mount, "link").unwrap();
        assert_eq!(found.source, temp.path().join("3/d/e").display().to_string());
        assert_eq!(narrowed(&mount, "out").unwrap_err().kind(), io::ErrorKind::NotFound);
        let error = narrowed(&mount, "loop").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn what_a_layer_hides_is_not_seen() {
        let (temp, mount) = three();
        let directory = fs::File::open(temp.path().join("2/d")).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        let mark = |name: &str| rustix::fs::fsetxattr(&directory, name, b"y", flags);
        if mark("trusted.overlay.opaque").or_else(|_| mark("user.overlay.opaque")).is_err() {
            eprintln!("skipped: no extended attributes here");
            return;
        }
        let lower = narrowed(&mount, "d").unwrap().option("lowerdir").unwrap().to_owned();
        assert_eq!(lower.split(':').count(), 2, "{lower}");
        fs::create_dir(temp.path().join("3/d/e")).unwrap();
        assert_eq!(narrowed(&mount, "d/e").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
