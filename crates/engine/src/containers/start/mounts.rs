//! What a container's mounts need before each of its starts, and what is looked at again before its program runs.
//!
//! dockerd does the same at the same moment (moby `daemon/volumes_unix.go`, `setupMounts`; `daemon/oci_linux.go`).

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::containers::mounts::{BindSource, MountPlan, MountSource};
use crate::containers::spec::mounts::Propagation;
use crate::containers::{Container, Owner, record};
use crate::volumes::subpath;
use crate::waiting::blocking;
use crate::{Engine, Error, Result};

/// What was found at the subpaths of volumes, held open so that it cannot be mistaken for anything else.
#[derive(Debug, Default)]
pub(in crate::containers) struct HeldPaths(Vec<HeldPath>);

#[derive(Debug)]
struct HeldPath {
    destination: String,
    base: PathBuf,
    subpath: String,
    handle: OwnedFd,
}

impl Engine {
    /// Make missing directories, check what the kernel would not, and hold on to what must not be exchanged.
    ///
    /// # Errors
    /// [`Error::SubpathEscapes`], [`Error::SubpathMissing`], [`Error::NotPropagated`], [`Error::Failed`].
    pub(in crate::containers) async fn prepare_mounts(
        &self,
        container: &Container,
    ) -> Result<HeldPaths> {
        if container.owner != Owner::Nerdctld || container.mounts.is_empty() {
            return Ok(HeldPaths::default());
        }
        let id = container.id.as_str();
        let doing = || format!("prepare the mounts of container {id}");
        let found = self.containerd().get_container(id).await;
        let found = found.map_err(|error| self.containerd_error(doing(), error))?;
        let plans = record::mount_plans(&found, &self.settings().namespace);
        blocking(doing(), move || prepare(&plans)).await?
    }
}

impl HeldPaths {
    /// Whether what is mounted in the container of process `pid` is what was found before.
    ///
    /// # Errors
    /// [`Error::SubpathEscapes`] if somebody has exchanged it meanwhile.
    pub(super) fn check(&self, pid: u32) -> Result<()> {
        for held in &self.0 {
            if !matches!(subpath::is_mounted(pid, &held.destination, &held.handle), Ok(true)) {
                return Err(Error::SubpathEscapes {
                    base: held.base.display().to_string(),
                    subpath: held.subpath.clone(),
                });
            }
        }
        Ok(())
    }
}

fn prepare(plans: &[MountPlan]) -> Result<HeldPaths> {
    let mut held = Vec::new();
    for plan in plans {
        match &plan.source {
            MountSource::Bind(bind) => prepare_bind(bind)?,
            MountSource::Volume(volume) if !volume.subpath.is_empty() => held.push(HeldPath {
                destination: plan.destination.clone(),
                base: volume.directory.clone(),
                subpath: volume.subpath.clone(),
                handle: subpath::open(&volume.directory, &volume.subpath)?,
            }),
            MountSource::Volume(_) | MountSource::Tmpfs(_) | MountSource::Image(_) => {}
        }
    }
    Ok(HeldPaths(held))
}

fn prepare_bind(bind: &BindSource) -> Result<()> {
    if bind.make {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(&bind.path);
        // A file, or below one: the runtime says what it thinks of it.
        let tolerated = [io::ErrorKind::AlreadyExists, io::ErrorKind::NotADirectory];
        if let Err(error) = made
            && !tolerated.contains(&error.kind())
        {
            let doing = format!("error while creating mount source path '{}'", bind.path.display());
            return Err(Error::failed(doing, error));
        }
    }
    let (marks, kind): (&[&str], _) = match bind.propagation {
        Propagation::Shared | Propagation::RShared => (&["shared:"], "shared"),
        Propagation::Slave | Propagation::RSlave if !bind.propagation_is_ours => {
            (&["shared:", "master:"], "shared or slave")
        }
        _ => return Ok(()),
    };
    let doing = || format!("find out how {} is mounted", bind.path.display());
    let table = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| Error::failed(doing(), error))?;
    let path = bind.path.canonicalize().map_err(|error| Error::failed(doing(), error))?;
    match mount_above(&table, &path) {
        Some(mount) if mount.is_any_of(marks) => Ok(()),
        Some(mount) => Err(Error::NotPropagated {
            path: bind.path.display().to_string(),
            mount: mount.point.to_owned(),
            kind,
        }),
        None => Ok(()),
    }
}

/// One line of mountinfo (proc(5)).
struct MountLine<'a> {
    point: &'a str,
    optional: Vec<&'a str>,
}

impl MountLine<'_> {
    fn is_any_of(&self, marks: &[&str]) -> bool {
        self.optional.iter().any(|field| marks.iter().any(|mark| field.starts_with(mark)))
    }
}

/// The mount that `path` is on: the last one of the longest mount point.
fn mount_above<'a>(table: &'a str, path: &Path) -> Option<MountLine<'a>> {
    let mut found: Option<MountLine<'a>> = None;
    for line in table.lines() {
        let mut fields = line.split(' ');
        let Some(point) = fields.nth(4) else { continue };
        if !path.starts_with(unescaped(point)) {
            continue;
        }
        if found.as_ref().is_none_or(|found| point.len() >= found.point.len()) {
            let optional = fields.skip(1).take_while(|field| *field != "-").collect();
            found = Some(MountLine { point, optional });
        }
    }
    found
}

/// Blanks, tabs, newlines and backslashes are octal numbers there.
fn unescaped(point: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(point.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:5 / /srv rw,relatime - tmpfs tmpfs rw
31 30 0:6 / /srv/my\\040data rw,relatime master:7 - tmpfs tmpfs rw
32 30 0:7 / /srv/both rw,relatime shared:8 master:7 - tmpfs tmpfs rw
";

    #[test]
    fn the_mount_that_a_path_is_on() {
        let on = |path: &str| mount_above(TABLE, Path::new(path)).unwrap();
        assert_eq!(on("/etc").point, "/");
        assert!(on("/etc").is_any_of(&["shared:"]));
        assert_eq!(on("/srv/x").point, "/srv");
        assert!(!on("/srv/x").is_any_of(&["shared:", "master:"]));
        assert!(on("/srv/my data/x").is_any_of(&["shared:", "master:"]));
        assert!(!on("/srv/my data").is_any_of(&["shared:"]));
        assert!(on("/srv/both").is_any_of(&["shared:"]));
        assert_eq!(on("/srvx").point, "/");
    }

    #[test]
    fn missing_directories_are_made_and_files_stay() {
        let temp = tempfile::tempdir().unwrap();
        let bind = |path: PathBuf| BindSource {
            path,
            propagation: Propagation::RPrivate,
            propagation_is_ours: true,
            recursive: true,
            make: true,
            locked: Vec::new(),
        };
        prepare_bind(&bind(temp.path().join("a/b"))).unwrap();
        assert!(temp.path().join("a/b").is_dir());
        std::fs::write(temp.path().join("file"), "x").unwrap();
        prepare_bind(&bind(temp.path().join("file"))).unwrap();
        prepare_bind(&bind(temp.path().join("file/below"))).unwrap();
        assert!(temp.path().join("file").is_file());
    }
}
