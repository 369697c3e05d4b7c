//! Devices of the Container Device Interface (CDI): `vendor.com/class=name`, and GPUs, which are asked for through it.
//!
//! Files below `/etc/cdi` and `/var/run/cdi` say what has to change in a container's spec so that it can use a device.
//! Sources: the CDI specification (`cncf-tags/container-device-interface`, SPEC.md), moby `daemon/cdi.go`,
//! `daemon/devices.go`; GPUs without a driver's name are CDI devices of the first vendor that there is, as in nerdctl
//! `pkg/cmd/container/run_gpus.go`.

mod apply;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType};
use serde::Deserialize;

pub(super) use apply::apply;

use super::lookups;
use crate::containers::spec::confinement::devices::DeviceRequest;
use crate::{Error, Result};

/// Where specifications are; a device of a later folder hides one of an earlier.
pub const FOLDERS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// A file that is larger is no specification. NVIDIA's have some hundred kilobytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Vendors of GPUs, the preferred one first (moby `daemon/devices.go`).
const GPU_KINDS: [&str; 2] = ["nvidia.com/gpu", "amd.com/gpu"];

/// What a driver of NVIDIA's GPUs is asked to have (moby `daemon/devices_nvidia_linux.go`).
const GPU_CAPABILITIES: [&str; 8] =
    ["gpu", "nvidia", "compute", "compat32", "graphics", "utility", "video", "display"];

#[derive(Debug, Deserialize)]
struct Specification {
    kind: String,
    #[serde(default)]
    devices: Vec<Device>,
    #[serde(default, rename = "containerEdits")]
    edits: Edits,
}

#[derive(Debug, Deserialize)]
struct Device {
    name: String,
    #[serde(default, rename = "containerEdits")]
    edits: Edits,
}

/// As written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<Mount>,
    hooks: Vec<Hook>,
    additional_gids: Vec<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Node {
    path: PathBuf,
    host_path: Option<PathBuf>,
    r#type: String,
    major: Option<i64>,
    minor: Option<i64>,
    file_mode: Option<u32>,
    permissions: String,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Mount {
    host_path: PathBuf,
    container_path: PathBuf,
    r#type: String,
    options: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Hook {
    hook_name: String,
    path: PathBuf,
    args: Vec<String>,
    env: Vec<String>,
    timeout: Option<i64>,
}

/// What changes in a container's spec, with everything looked up.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ContainerEdits {
    env: Vec<String>,
    /// With what the container may do to each.
    devices: Vec<(LinuxDevice, String)>,
    mounts: Vec<Mount>,
    hooks: Vec<Hook>,
    gids: Vec<u32>,
}

/// What the requests change.
///
/// # Errors
/// [`Error::NoDeviceDriver`] if nobody has such devices; [`Error::InvalidParameter`] for a device that is not there.
pub(super) fn edits(requests: &[DeviceRequest]) -> Result<Vec<ContainerEdits>> {
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    edits_from(requests, &Registry::read(&FOLDERS.map(Path::new)))
}

fn edits_from(requests: &[DeviceRequest], registry: &Registry) -> Result<Vec<ContainerEdits>> {
    let mut names = Vec::new();
    for request in requests {
        names.extend(device_names(request, registry)?);
    }
    registry.edits_of(&names)
}

/// The names of the devices that one request means.
fn device_names(request: &DeviceRequest, registry: &Registry) -> Result<Vec<String>> {
    let invalid = |text: &str| Err(Error::InvalidParameter(text.to_owned()));
    if request.driver == "cdi" {
        if request.count != 0 {
            return invalid("unexpected count in CDI device request");
        }
        if !request.options.is_empty() {
            return invalid("unexpected options in CDI device request");
        }
        return Ok(request.ids.clone());
    }
    let kind = gpu_kind(request, registry).ok_or_else(|| Error::NoDeviceDriver {
        driver: request.driver.clone(),
        capabilities: go_lists(&request.capabilities),
    })?;
    if request.count != 0 && !request.ids.is_empty() {
        return invalid("cannot set both Count and DeviceIDs on device request");
    }
    let name = |id: &String| if id.contains('=') { id.clone() } else { format!("{kind}={id}") };
    if !request.ids.is_empty() {
        return Ok(request.ids.iter().map(name).collect());
    }
    if request.count < 0 {
        return Ok(vec![format!("{kind}=all")]);
    }
    // More than there can be is an unknown device in any case.
    Ok((0..request.count.min(1024)).map(|number| format!("{kind}={number}")).collect())
}

/// The kind of GPU that a request without names of devices gets.
fn gpu_kind(request: &DeviceRequest, registry: &Registry) -> Option<&'static str> {
    let known = |word: &String| GPU_CAPABILITIES.contains(&word.as_str());
    let wants_gpu = request.capabilities.iter().any(|all| !all.is_empty() && all.iter().all(known));
    match request.driver.as_str() {
        "nvidia" => registry.has(GPU_KINDS[0]).then_some(GPU_KINDS[0]),
        "amd" => registry.has(GPU_KINDS[1]).then_some(GPU_KINDS[1]),
        "" if wants_gpu => GPU_KINDS.into_iter().find(|kind| registry.has(kind)),
        _ => None,
    }
}

/// Go's `%v` of lists of lists.
fn go_lists(lists: &[Vec<String>]) -> String {
    let inner: Vec<_> = lists.iter().map(|list| format!("[{}]", list.join(" "))).collect();
    format!("[{}]", inner.join(" "))
}

/// All devices of all readable specifications.
#[derive(Debug, Default)]
struct Registry {
    specifications: Vec<Specification>,
    /// By qualified name: where its specification and it are; `None` if two of one folder have the name.
    devices: BTreeMap<String, Option<(usize, usize)>>,
}

impl Registry {
    fn read(folders: &[&Path]) -> Self {
        let mut registry = Self::default();
        for folder in folders {
            let mut of_folder = HashSet::new();
            for file in files(folder) {
                match specification(&file) {
                    Ok(specification) => registry.add(specification, &mut of_folder),
                    Err(error) => {
                        tracing::warn!(file = %file.display(), error, "a CDI specification cannot be read");
                    }
                }
            }
        }
        registry
    }

    fn add(&mut self, specification: Specification, of_folder: &mut HashSet<String>) {
        let at = self.specifications.len();
        for (number, device) in specification.devices.iter().enumerate() {
            let name = format!("{}={}", specification.kind, device.name);
            let place = of_folder.insert(name.clone()).then_some((at, number));
            self.devices.insert(name, place);
        }
        self.specifications.push(specification);
    }

    fn has(&self, kind: &str) -> bool {
        self.specifications.iter().any(|found| found.kind == kind && !found.devices.is_empty())
    }

    /// What these devices change: each specification's own part once, then each device's.
    fn edits_of(&self, names: &[String]) -> Result<Vec<ContainerEdits>> {
        let missing: Vec<_> = names
            .iter()
            .filter(|name| !matches!(self.devices.get(*name), Some(Some(_))))
            .cloned()
            .collect();
        if !missing.is_empty() {
            return Err(injection_failed(&format!(
                "unresolvable CDI devices {}",
                missing.join(", ")
            )));
        }
        let mut seen = HashSet::new();
        let mut all = Vec::new();
        for (at, number) in names.iter().filter_map(|name| *self.devices.get(name)?) {
            let specification = &self.specifications[at];
            if seen.insert(at) {
                all.push(resolve(&specification.edits)?);
            }
            all.push(resolve(&specification.devices[number].edits)?);
        }
        Ok(all)
    }
}

fn injection_failed(reason: &str) -> Error {
    Error::InvalidParameter(format!("CDI device injection failed: {reason}"))
}

/// Specifications in a folder, in order of their names; a folder that is not there has none.
fn files(folder: &Path) -> Vec<PathBuf> {
    let is_specification = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("json" | "yaml" | "yml"))
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(is_specification).collect();
    files.sort_unstable();
    files
}

/// YAML has JSON in it, so one reader does for both.
fn specification(file: &Path) -> std::result::Result<Specification, String> {
    let size = fs::metadata(file).map_err(|error| error.to_string())?.len();
    if size > MAX_BYTES {
        return Err(format!("it has {size} bytes"));
    }
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let found: Specification = serde_saphyr::from_str(&text).map_err(|error| error.to_string())?;
    let (vendor, class) = found.kind.split_once('/').unwrap_or_default();
    if vendor.is_empty() || class.is_empty() {
        return Err(format!("{:?} is no kind of devices", found.kind));
    }
    Ok(found)
}

/// Complete what a specification leaves to the host.
fn resolve(edits: &Edits) -> Result<ContainerEdits> {
    Ok(ContainerEdits {
        env: edits.env.clone(),
        devices: edits.device_nodes.iter().map(node).collect::<Result<_>>()?,
        mounts: edits.mounts.clone(),
        hooks: edits.hooks.clone(),
        gids: edits.additional_gids.clone(),
    })
}

fn node(node: &Node) -> Result<(LinuxDevice, String)> {
    let permissions =
        if node.permissions.is_empty() { "rwm".to_owned() } else { node.permissions.clone() };
    let source = node.host_path.as_deref().unwrap_or(&node.path);
    let device = match (node.r#type.as_str(), node.major, node.minor) {
        (kind, Some(major), Some(minor)) if !kind.is_empty() => described(node, kind, major, minor),
        _ => lookups::device(source, &node.path),
    };
    let mut device = device
        .ok_or_else(|| injection_failed(&format!("{} is not a device node", source.display())))?;
    device.set_file_mode(node.file_mode.or(device.file_mode()));
    device.set_uid(node.uid.or(device.uid()));
    device.set_gid(node.gid.or(device.gid()));
    Ok((device, permissions))
}

fn described(node: &Node, kind: &str, major: i64, minor: i64) -> Option<LinuxDevice> {
    let kind = match kind {
        "b" => LinuxDeviceType::B,
        "c" | "u" => LinuxDeviceType::C,
        "p" => LinuxDeviceType::P,
        _ => return None,
    };
    LinuxDeviceBuilder::default().path(&node.path).typ(kind).major(major).minor(minor).build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "\
cdiVersion: 0.6.0
kind: nvidia.com/gpu
containerEdits:
  env: [GPU=yes]
  mounts:
    - {hostPath: /usr/lib/gpu, containerPath: /usr/lib/gpu, options: [ro, bind]}
devices:
  - name: '0'
    containerEdits:
      deviceNodes: [{path: /dev/gpu0, hostPath: /dev/null}]
  - name: all
    containerEdits:
      deviceNodes: [{path: /dev/gpu0, type: c, major: 195, minor: 0, permissions: rw, gid: 44}]
      hooks: [{hookName: createContainer, path: /usr/bin/gpu-hook, args: [gpu-hook, x]}]
      additionalGids: [44]
";

    fn registry(files: &[(&str, &str)]) -> (tempfile::TempDir, Registry) {
        let temp = tempfile::tempdir().unwrap();
        let folders = ["static", "dynamic"].map(|name| temp.path().join(name));
        for (path, text) in files {
            let path = temp.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let registry = Registry::read(&[&folders[0], &folders[1]]);
        (temp, registry)
    }

    fn gpus(count: i64) -> DeviceRequest {
        let capabilities = vec![vec!["gpu".to_owned()]];
        DeviceRequest { count, capabilities, ..DeviceRequest::default() }
    }

    #[test]
    fn a_gpu_is_a_device_of_the_vendor_that_is_there() {
        let (_temp, registry) = registry(&[("static/nvidia.yaml", YAML)]);
        assert_eq!(device_names(&gpus(-1), &registry).unwrap(), ["nvidia.com/gpu=all"]);
        assert_eq!(device_names(&gpus(1), &registry).unwrap(), ["nvidia.com/gpu=0"]);
        let edits = edits_from(&[gpus(-1)], &registry).unwrap();
        assert_eq!((edits.len(), edits[0].env.as_slice()), (2, &["GPU=yes".to_owned()][..]));
        let (device, access) = &edits[1].devices[0];
        assert_eq!((device.major(), device.gid(), access.as_str()), (195, Some(44), "rw"));
        assert_eq!((edits[1].gids.as_slice(), edits[1].hooks.len()), (&[44][..], 1));
        let found = edits_from(&[gpus(1)], &registry).unwrap();
        assert_eq!(found[1].devices[0].0.minor(), 3, "looked up on the host");
    }

    #[test]
    fn nobody_has_such_devices() {
        let (_temp, registry) = registry(&[]);
        assert_eq!(
            edits_from(&[gpus(-1)], &registry).unwrap_err().to_string(),
            "could not select device driver \"\" with capabilities: [[gpu]]"
        );
        let other = DeviceRequest { driver: "other".into(), ..DeviceRequest::default() };
        assert_eq!(
            edits_from(&[other], &registry).unwrap_err().to_string(),
            "could not select device driver \"other\" with capabilities: []"
        );
    }

    #[test]
    fn devices_by_name() {
        let vendor = |node: &str| {
            format!(
                r#"{{"cdiVersion": "0.6.0", "kind": "vendor.com/net",
                "devices": [{{"name": "a", "containerEdits": {{"env": ["NODE={node}"]}}}}]}}"#
            )
        };
        let (_temp, found) = registry(&[
            ("static/a.json", &vendor("static")),
            ("dynamic/a.json", &vendor("dynamic")),
            ("static/broken.json", "{"),
        ]);
        let ask = |ids: &[&str]| DeviceRequest {
            driver: "cdi".into(),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            ..DeviceRequest::default()
        };
        let edits = edits_from(&[ask(&["vendor.com/net=a"])], &found).unwrap();
        assert_eq!(edits[1].env, ["NODE=dynamic"], "the later folder counts");
        assert_eq!(
            edits_from(&[ask(&["vendor.com/net=b", "x"])], &found).unwrap_err().to_string(),
            "CDI device injection failed: unresolvable CDI devices vendor.com/net=b, x"
        );
        let (_temp, twice) =
            registry(&[("static/a.json", &vendor("1")), ("static/b.json", &vendor("2"))]);
        assert!(edits_from(&[ask(&["vendor.com/net=a"])], &twice).is_err(), "which of them?");
        let counted = DeviceRequest { count: 1, ..ask(&[]) };
        assert_eq!(
            edits_from(&[counted], &found).unwrap_err().to_string(),
            "unexpected count in CDI device request"
        );
    }
}
