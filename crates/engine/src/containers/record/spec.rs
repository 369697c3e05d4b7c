//! The few parts of an OCI spec that lists and inspects show.
//!
//! Specs of other clients may be of any version and hold anything: what is not as expected counts as absent.

use std::collections::HashMap;

use serde::Deserialize;

use crate::containers::MountPoint;

/// Files that every container has mounted, and that are no mounts to people.
const NETWORK_FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SlimSpec {
    #[serde(deserialize_with = "or_default")]
    pub(super) process: SlimProcess,
    pub(super) hostname: String,
    pub(super) domainname: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) mounts: Vec<SlimMount>,
    #[serde(deserialize_with = "or_default")]
    pub(super) annotations: HashMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) linux: SlimLinux,
    #[serde(deserialize_with = "or_default")]
    pub(super) root: SlimRoot,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SlimRoot {
    pub(super) readonly: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SlimProcess {
    pub(super) terminal: bool,
    #[serde(deserialize_with = "or_default")]
    pub(super) args: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) env: Vec<String>,
    pub(super) cwd: String,
    pub(super) user: SlimUser,
    #[serde(rename = "apparmorProfile")]
    pub(super) apparmor_profile: String,
    #[serde(rename = "oomScoreAdj", deserialize_with = "or_default")]
    pub(super) oom_score_adj: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SlimUser {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SlimMount {
    pub(super) destination: String,
    r#type: String,
    pub(super) source: String,
    #[serde(deserialize_with = "or_default")]
    options: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SlimLinux {
    #[serde(deserialize_with = "or_default")]
    namespaces: Vec<SlimNamespace>,
    #[serde(deserialize_with = "or_default")]
    pub(super) masked_paths: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) readonly_paths: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) sysctl: HashMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SlimNamespace {
    r#type: String,
    path: String,
}

/// Go writes `null` for what is empty.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl SlimSpec {
    pub(super) fn of(record: &containerd::containers::Container) -> Self {
        let Some(any) = &record.spec else { return Self::default() };
        serde_json::from_slice(&any.value).unwrap_or_else(|error| {
            tracing::debug!(container = record.id, %error, "the OCI spec of a container cannot be read");
            Self::default()
        })
    }

    /// What was mounted into it from outside.
    pub(super) fn binds(&self) -> impl Iterator<Item = &SlimMount> {
        self.mounts
            .iter()
            .filter(|mount| mount.is_bind() && !NETWORK_FILES.contains(&mount.destination.as_str()))
    }

    /// The source of the mount at `destination`.
    pub(super) fn source_of(&self, destination: &str) -> Option<&str> {
        self.mounts
            .iter()
            .find(|mount| mount.destination == destination)
            .map(|mount| mount.source.as_str())
    }
}

impl SlimLinux {
    pub(super) fn has_namespace(&self, kind: &str) -> bool {
        self.namespaces.iter().any(|namespace| namespace.r#type == kind)
    }

    /// The path of a namespace that is joined; `None` also for one that is made.
    pub(super) fn namespace_path(&self, kind: &str) -> Option<&str> {
        let found = self.namespaces.iter().find(|namespace| namespace.r#type == kind)?;
        Some(found.path.as_str()).filter(|path| !path.is_empty())
    }
}

impl SlimMount {
    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|given| given == option)
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.has("ro") || self.has("rro")
    }

    pub(super) fn is_bind(&self) -> bool {
        self.r#type == "bind" || self.has("bind") || self.has("rbind")
    }

    pub(super) fn to_mount_point(&self) -> MountPoint {
        let propagation = ["rprivate", "private", "rshared", "shared", "rslave", "slave"];
        let propagation =
            propagation.into_iter().find(|option| self.has(option)).unwrap_or_default();
        MountPoint {
            kind: "bind".to_owned(),
            name: String::new(),
            source: self.source.clone(),
            destination: self.destination.clone(),
            driver: String::new(),
            mode: if self.has("ro") { "ro".to_owned() } else { String::new() },
            read_write: !self.has("ro"),
            propagation: propagation.to_owned(),
        }
    }
}
