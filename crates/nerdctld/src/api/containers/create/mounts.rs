//! `HostConfig.Binds`, `Mounts`, `Tmpfs`, `VolumesFrom` and `VolumeDriver`, `Config.Volumes`: from Docker's texts to the
//! engine's words.
//!
//! Everything that the request alone decides is decided here, in dockerd's words (moby
//! `daemon/volume/mounts/linux_parser.go`, `validate.go`; `daemon/volumes.go`). dockerd answers some of these refusals with
//! 500; the mistake is the client's, so they are all 400 here.

use std::collections::{BTreeMap, BTreeSet};

use docker_wire::containers::ContainerConfig;
use docker_wire::host_config::{HostConfig, Mount, TmpfsOptions};
use engine::containers::spec::mounts::{
    BindWish, MissingSource, MountRequest, MountWish, MountsSpec, Propagation, ReadOnlyDepth,
    VolumeWish, VolumesFrom, clean,
};
use engine::volumes::create::volume_name;
use nerdctl_store::labels::is_reserved_key;

use crate::api::error::{ApiError, Refusal};

/// Options that dockerd's tmpfs starts from (moby `daemon/oci_linux.go`, `withMounts`).
const TMPFS_DEFAULTS: [&str; 4] = ["noexec", "nosuid", "nodev", "rprivate"];

/// Flags of tmpfs, and what they are the opposite of (moby/sys `mount/flags_linux.go`).
const FLAGS: &[(&str, &str)] = &[
    ("ro", "rw"),
    ("suid", "nosuid"),
    ("dev", "nodev"),
    ("exec", "noexec"),
    ("sync", "async"),
    ("dirsync", "dirsync"),
    ("remount", "remount"),
    ("mand", "nomand"),
    ("atime", "noatime"),
    ("diratime", "nodiratime"),
    ("bind", "bind"),
    ("rbind", "rbind"),
    ("relatime", "norelatime"),
    ("strictatime", "nostrictatime"),
    ("defaults", "defaults"),
];

/// Keys of tmpfs options that have a value (moby/sys `mount/flags_linux.go`, `validFlags`).
const VALUES: [&str; 7] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];

/// What a request wants mounted.
pub(super) fn mounts(config: &ContainerConfig, host: &HostConfig) -> Result<MountsSpec, ApiError> {
    let mut tmpfs = BTreeMap::new();
    for (destination, options) in &host.tmpfs {
        let options = options.split(',').filter(|option| !option.is_empty());
        tmpfs.insert(tmpfs_destination(destination)?, merged(options)?);
    }
    let mut taken = BTreeSet::new();
    let mut requests = Vec::new();
    for raw in host.binds.iter().flatten() {
        let request = bind(raw, &host.volume_driver)?;
        if tmpfs.contains_key(&request.destination) || !taken.insert(request.destination.clone()) {
            return Err(duplicate(&request.destination).into());
        }
        requests.push(request);
    }
    for mount in &host.mounts {
        let request = long_form(mount)?;
        if !taken.insert(request.destination.clone()) {
            return Err(duplicate(&mount.target).into());
        }
        requests.push(request);
    }
    Ok(MountsSpec {
        mounts: requests,
        tmpfs,
        volumes: config.volumes.iter().flatten().map(|(path, _)| path.clone()).collect(),
        volumes_from: host
            .volumes_from
            .iter()
            .flatten()
            .map(|from| volumes_from(from))
            .collect::<Result<_, _>>()?,
        volume_driver: host.volume_driver.clone(),
    })
}

fn bad(text: impl Into<String>) -> Refusal {
    Refusal::BadParameter(text.into())
}

fn duplicate(destination: &str) -> Refusal {
    bad(format!("Duplicate mount point: {destination}"))
}

/// The words of `src:dst:mode`, each kind at most once.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mode {
    read_only: Option<bool>,
    label: Option<()>,
    propagation: Option<Propagation>,
    no_copy: Option<()>,
    consistency: Option<()>,
}

impl Mode {
    /// `None` for a text that is no mode.
    fn parse(text: &str) -> Option<Self> {
        let mut mode = Self::default();
        if text.is_empty() {
            return Some(mode);
        }
        for word in text.split(',') {
            let is_new = match word {
                "rw" | "ro" => mode.read_only.replace(word == "ro").is_none(),
                // Only SELinux knows labels.
                "z" | "Z" => mode.label.replace(()).is_none(),
                "nocopy" => mode.no_copy.replace(()).is_none(),
                // Only macOS has a choice.
                "consistent" | "cached" | "delegated" => mode.consistency.replace(()).is_none(),
                word => mode.propagation.replace(Propagation::of(word)?).is_none(),
            };
            if !is_new {
                return None;
            }
        }
        Some(mode)
    }
}

/// `src:dst:mode`, `src:dst`, or `dst`.
fn bind(raw: &str, driver: &str) -> Result<MountRequest, ApiError> {
    let invalid = || bad(format!("invalid volume specification: '{raw}'"));
    let parts: Vec<&str> = raw.splitn(4, ':').collect();
    let (source, target, mode_text) = match parts[..] {
        [target] if !target.is_empty() => ("", target, ""),
        // A destination with a mode is no volume.
        [_, second] if Mode::parse(second).is_some() => return Err(invalid().into()),
        [source, target] if !source.is_empty() => (source, target, ""),
        [source, target, mode] if !source.is_empty() => (source, target, mode),
        _ => return Err(invalid().into()),
    };
    let mode = Mode::parse(mode_text).ok_or_else(|| bad(format!("invalid mode: {mode_text}")))?;
    let is_path = source.starts_with('/');
    let kind = if is_path { "bind" } else { "volume" };
    let within = |refusal: Refusal| bad(format!("{}: {refusal}", invalid()));
    let extra = |field: &str| within(wrong(kind, &format!("field {field} must not be specified")));
    if is_path && mode.no_copy.is_some() {
        return Err(extra("VolumeOptions").into());
    }
    if !is_path && mode.propagation.is_some() {
        return Err(extra("BindOptions").into());
    }
    let destination = destination(kind, target).map_err(within)?;
    let what = if is_path {
        MountWish::Bind(BindWish {
            source: clean(source),
            propagation: mode.propagation,
            recursive: true,
            read_only_depth: ReadOnlyDepth::IfPossible,
            missing: MissingSource::Make,
        })
    } else {
        MountWish::Volume(VolumeWish {
            name: Some(source).filter(|name| !name.is_empty()).map(volume_name).transpose()?,
            driver: driver.to_owned(),
            labels: BTreeMap::new(),
            copy_up: mode.no_copy.is_none(),
            subpath: String::new(),
        })
    };
    let read_only = mode.read_only == Some(true);
    Ok(MountRequest { destination, read_only, mode: mode_text.to_owned(), what })
}

/// An element of `HostConfig.Mounts`.
fn long_form(mount: &Mount) -> Result<MountRequest, ApiError> {
    let kind = mount.kind.as_str();
    let has = [
        ("bind", "BindOptions", mount.bind_options.is_some()),
        ("volume", "VolumeOptions", mount.volume_options.is_some()),
        ("image", "ImageOptions", mount.image_options.is_some()),
        ("tmpfs", "TmpfsOptions", mount.tmpfs_options.is_some()),
        ("cluster", "ClusterOptions", mount.cluster_options.is_some()),
    ];
    if let Some((_, field, _)) = has.iter().find(|(of, _, given)| *given && *of != kind) {
        return Err(wrong(kind, &format!("field {field} must not be specified")).into());
    }
    let destination = destination(kind, &mount.target)?;
    let what = match kind {
        "bind" => long_bind(mount)?,
        "volume" => long_volume(mount)?,
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(wrong(kind, "field Source must not be specified").into());
            }
            let options = mount.tmpfs_options.clone().unwrap_or_default();
            let words = tmpfs_words(&options, mount.read_only)?;
            MountWish::Tmpfs(merged(words.iter().map(String::as_str))?)
        }
        "image" => {
            if mount.source.is_empty() {
                return Err(wrong(kind, "field Source must not be empty").into());
            }
            let subpath = mount.image_options.clone().unwrap_or_default().subpath;
            MountWish::Image { image: mount.source.clone(), subpath: local(kind, &subpath)? }
        }
        _ => return Err(wrong(kind, "mount type unknown").into()),
    };
    Ok(MountRequest { destination, read_only: mount.read_only, mode: String::new(), what })
}

fn long_bind(mount: &Mount) -> Result<MountWish, ApiError> {
    let options = mount.bind_options.clone().unwrap_or_default();
    if mount.source.is_empty() {
        return Err(wrong("bind", "field Source must not be empty").into());
    }
    let propagation = match options.propagation.as_str() {
        "" => None,
        word => Some(
            Propagation::of(word)
                .ok_or_else(|| wrong("bind", &format!("invalid propagation mode: {word}")))?,
        ),
    };
    absolute(&mount.source).map_err(|text| wrong("bind", &text))?;
    let read_only_depth = match (options.read_only_non_recursive, options.read_only_force_recursive)
    {
        (false, false) => ReadOnlyDepth::IfPossible,
        (true, false) => ReadOnlyDepth::TopOnly,
        (false, true) => ReadOnlyDepth::Whole,
        (true, true) => {
            let text = "mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive";
            return Err(bad(text).into());
        }
    };
    Ok(MountWish::Bind(BindWish {
        source: clean(&mount.source),
        propagation,
        recursive: !options.non_recursive,
        read_only_depth,
        missing: if options.create_mountpoint {
            MissingSource::Make
        } else {
            MissingSource::Refuse
        },
    }))
}

fn long_volume(mount: &Mount) -> Result<MountWish, ApiError> {
    let options = mount.volume_options.clone().unwrap_or_default();
    let driver = options.driver_config.unwrap_or_default();
    if !options.subpath.is_empty() && mount.source.is_empty() {
        let text = "must not set Subpath when using anonymous volumes";
        return Err(wrong("volume", text).into());
    }
    if let Some(reserved) = options.labels.keys().find(|key| is_reserved_key(key)) {
        return Err(super::reserved("label", reserved).into());
    }
    if !driver.options.is_empty() {
        let field = "HostConfig.Mounts.VolumeOptions.DriverConfig.Options";
        return Err(engine::Error::unsupported(field).into());
    }
    let name = Some(mount.source.as_str()).filter(|name| !name.is_empty());
    Ok(MountWish::Volume(VolumeWish {
        name: name.map(volume_name).transpose()?,
        driver: driver.name,
        labels: options.labels,
        copy_up: !options.no_copy,
        subpath: local("volume", &options.subpath)?,
    }))
}

fn wrong(kind: &str, text: &str) -> Refusal {
    bad(format!("invalid mount config for type {kind:?}: {text}"))
}

/// Clean, absolute, and not the root.
fn destination(kind: &str, target: &str) -> Result<String, Refusal> {
    if target.is_empty() {
        return Err(wrong(kind, "field Target must not be empty"));
    }
    not_root(target).and_then(|()| absolute(target)).map_err(|text| wrong(kind, &text))?;
    Ok(clean(target))
}

fn tmpfs_destination(target: &str) -> Result<String, Refusal> {
    not_root(target).and_then(|()| absolute(target)).map_err(bad)?;
    Ok(clean(target))
}

fn not_root(path: &str) -> Result<(), String> {
    if path.starts_with('/') && clean(path) == "/" {
        return Err("invalid specification: destination can't be '/'".to_owned());
    }
    Ok(())
}

fn absolute(path: &str) -> Result<(), String> {
    if path.starts_with('/') {
        return Ok(());
    }
    Err(format!("invalid mount path: '{path}' mount path must be absolute"))
}

/// A path that does not begin at the root and does not lead out (Go's `filepath.IsLocal`).
fn local(kind: &str, subpath: &str) -> Result<String, Refusal> {
    let mut depth = 0_usize;
    let mut is_local = !subpath.starts_with('/');
    for part in subpath.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => is_local = false,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    if is_local {
        return Ok(subpath.to_owned());
    }
    Err(wrong(kind, "subpath must be a relative path within the volume"))
}

/// `mode=700,size=64m` and the options (moby `linux_parser.go`, `ConvertTmpfsOptions`).
fn tmpfs_words(options: &TmpfsOptions, read_only: bool) -> Result<Vec<String>, Refusal> {
    let mut words = Vec::new();
    if read_only {
        words.push("ro".to_owned());
    }
    if options.mode != 0 {
        words.push(format!("mode={:o}", options.mode));
    }
    if options.size_bytes != 0 {
        words.push(format!("size={}", size(options.size_bytes)));
    }
    for option in &options.options {
        let text = match option.as_slice() {
            [] => return Err(wrong("tmpfs", "invalid option array length")),
            [flag] | [flag, _] if !["exec", "noexec"].contains(&flag.as_str()) => {
                return Err(wrong("tmpfs", &format!("invalid option: {flag}")));
            }
            [flag] => flag.clone(),
            [key, value] => format!("{key}={value}"),
            _ => return Err(wrong("tmpfs", "invalid option array length")),
        };
        words.push(text);
    }
    Ok(words)
}

fn size(bytes: i64) -> String {
    let units = [("g", 1 << 30), ("m", 1 << 20), ("k", 1_i64 << 10)];
    units
        .iter()
        .find(|(_, unit)| bytes % unit == 0)
        .map_or_else(|| bytes.to_string(), |(suffix, unit)| format!("{}{suffix}", bytes / unit))
}

/// Docker's defaults with the options over them: of flags that contradict each other the last one counts, and so it does
/// of keys (moby/sys `mount/flags_unix.go`, `MergeTmpfsOptions`).
fn merged<'a>(options: impl Iterator<Item = &'a str>) -> Result<Vec<String>, Refusal> {
    let all: Vec<&str> = TMPFS_DEFAULTS.into_iter().chain(options).collect();
    let mut seen = BTreeSet::new();
    let mut kept = Vec::new();
    for option in all.into_iter().rev() {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let flag = FLAGS.iter().find(|(set, unset)| [*set, *unset].contains(&key));
        let of_one_kind = match flag {
            Some((set, _)) if value.is_empty() => *set,
            None if Propagation::of(key).is_some() => "propagation",
            None if VALUES.contains(&key) => key,
            _ => return Err(bad(format!("invalid tmpfs option {key:?}"))),
        };
        if seen.insert(of_one_kind) {
            kept.push(option.to_owned());
        }
    }
    kept.reverse();
    Ok(kept)
}

/// `container`, `container:ro`.
fn volumes_from(from: &str) -> Result<VolumesFrom, Refusal> {
    if from.is_empty() {
        return Err(bad("volumes-from specification cannot be an empty string"));
    }
    let (container, text) = from.split_once(':').unwrap_or((from, ""));
    let mode = Mode::parse(text)
        .filter(|mode| mode.propagation.is_none() && mode.no_copy.is_none())
        .ok_or_else(|| bad(format!("invalid mode: {text}")))?;
    Ok(VolumesFrom { container: container.to_owned(), read_only: mode.read_only == Some(true) })
}

#[cfg(test)]
mod tests;
