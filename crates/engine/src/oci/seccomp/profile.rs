//! A seccomp filter that the client brings, in the profile format of Docker, nerdctl and podman.
//!
//! Beside the rules of the OCI specification it has conditions: a rule can hold for some architectures, capabilities
//! and kernels only. They are judged here, so that one profile fits all hosts (moby `profiles/seccomp`).

use std::path::PathBuf;
use std::str::FromStr;

use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg,
    LinuxSeccompFilterFlag, LinuxSyscall,
};
use serde::{Deserialize, Deserializer};

use super::architectures;
use crate::oci::HostFacts;

/// A profile, read and not yet judged.
#[derive(Clone, Debug, PartialEq)]
pub struct SeccompProfile(Document);

/// A profile that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InvalidProfile {
    /// It is no JSON of that form.
    #[error("Decoding seccomp profile failed: {0}")]
    Json(#[from] serde_json::Error),
    /// It says two things about the same.
    #[error("{0}")]
    Contradiction(&'static str),
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    #[serde(deserialize_with = "empty_is_none")]
    default_action: Option<LinuxSeccompAction>,
    default_errno_ret: Option<u32>,
    #[serde(deserialize_with = "null_is_default")]
    architectures: Vec<Arch>,
    #[serde(deserialize_with = "null_is_default")]
    arch_map: Vec<ArchitectureMap>,
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    listener_path: Option<PathBuf>,
    listener_metadata: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    syscalls: Vec<Rule>,
}

/// An architecture, and those whose programs it can run too.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchitectureMap {
    architecture: Arch,
    #[serde(default, deserialize_with = "null_is_default")]
    sub_architectures: Vec<Arch>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    /// The old form of `names`.
    #[serde(default)]
    name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    names: Vec<String>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_is_default")]
    args: Vec<LinuxSeccompArg>,
    #[serde(default, deserialize_with = "null_is_default")]
    includes: Condition,
    #[serde(default, deserialize_with = "null_is_default")]
    excludes: Condition,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    #[serde(deserialize_with = "null_is_default")]
    caps: Vec<Capability>,
    /// In Go's spelling.
    #[serde(deserialize_with = "null_is_default")]
    arches: Vec<String>,
    #[serde(deserialize_with = "kernel")]
    min_kernel: Option<(u32, u32)>,
}

/// Go writes `null` for what is empty.
fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn empty_is_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<LinuxSeccompAction>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| serde::de::Error::custom(format!("unknown action {text:?}")))
}

fn kernel<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<(u32, u32)>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let numbers = text
        .split_once('.')
        .and_then(|(kernel, major)| Some((kernel.parse().ok()?, major.parse().ok()?)));
    numbers.filter(|numbers| *numbers != (0, 0)).map(Some).ok_or_else(|| {
        let text = format!("invalid kernel version: {text:?}, expected \"<kernel>.<major>\"");
        serde::de::Error::custom(text)
    })
}

impl FromStr for SeccompProfile {
    type Err = InvalidProfile;

    fn from_str(json: &str) -> Result<Self, Self::Err> {
        let mut document: Document = serde_json::from_str(json)?;
        if !document.architectures.is_empty() && !document.arch_map.is_empty() {
            return Err(InvalidProfile::Contradiction(
                "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
            ));
        }
        for rule in &mut document.syscalls {
            let name = std::mem::take(&mut rule.name);
            match (name.is_empty(), rule.names.is_empty()) {
                (true, _) => {}
                (false, true) => rule.names.push(name),
                (false, false) => {
                    return Err(InvalidProfile::Contradiction(
                        "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'",
                    ));
                }
            }
        }
        Ok(Self(document))
    }
}

impl SeccompProfile {
    /// The filter for a container with this bounding set on this host; `None` for a profile that says nothing.
    pub(in crate::oci) fn filter(
        &self,
        host: &HostFacts,
        bounding: &Capabilities,
    ) -> Option<LinuxSeccomp> {
        let profile = &self.0;
        if profile.default_action.is_none() && profile.syscalls.is_empty() {
            return None;
        }
        let rules = profile.syscalls.iter().filter(|rule| rule.holds(host, bounding));
        let architectures = self.architectures(host);
        let mut filter = LinuxSeccomp::default();
        filter
            .set_default_action(profile.default_action.unwrap_or(LinuxSeccompAction::ScmpActErrno))
            .set_default_errno_ret(profile.default_errno_ret)
            .set_architectures(Some(architectures).filter(|list| !list.is_empty()))
            .set_flags(profile.flags.clone())
            .set_listener_path(profile.listener_path.clone())
            .set_listener_metadata(profile.listener_metadata.clone())
            .set_syscalls(Some(rules.map(Rule::to_syscall).collect()));
        Some(filter)
    }

    fn architectures(&self, host: &HostFacts) -> Vec<Arch> {
        let native = architectures(&host.architecture).first().copied();
        let mapped =
            self.0.arch_map.iter().find(|entry| Some(entry.architecture) == native).map(|entry| {
                std::iter::once(entry.architecture).chain(entry.sub_architectures.iter().copied())
            });
        mapped.map_or_else(|| self.0.architectures.clone(), Iterator::collect)
    }
}

impl Rule {
    fn holds(&self, host: &HostFacts, bounding: &Capabilities) -> bool {
        !self.excludes.excludes(host, bounding) && self.includes.includes(host, bounding)
    }

    fn to_syscall(&self) -> LinuxSyscall {
        let mut syscall = LinuxSyscall::default();
        syscall
            .set_names(self.names.clone())
            .set_action(self.action)
            .set_errno_ret(self.errno_ret)
            .set_args(Some(self.args.clone()).filter(|args| !args.is_empty()));
        syscall
    }
}

impl Condition {
    /// One thing that is so is enough.
    fn excludes(&self, host: &HostFacts, bounding: &Capabilities) -> bool {
        self.arches.contains(&host.architecture)
            || self.caps.iter().any(|capability| bounding.contains(capability))
            || self.min_kernel.is_some_and(|kernel| host.kernel >= kernel)
    }

    /// All must be so.
    fn includes(&self, host: &HostFacts, bounding: &Capabilities) -> bool {
        (self.arches.is_empty() || self.arches.contains(&host.architecture))
            && self.caps.iter().all(|capability| bounding.contains(capability))
            && self.min_kernel.is_none_or(|kernel| host.kernel >= kernel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::capabilities::docker_defaults;
    use crate::oci::host::tests::facts;

    const PROFILE: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                    {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": null}],
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "", "includes": {}, "excludes": {}},
            {"name": "clock_settime", "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_TIME"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["arm_fadvise64_64"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]}
        ]
    }"#;

    fn names(filter: &LinuxSeccomp) -> Vec<String> {
        let rules = filter.syscalls().as_ref().unwrap().iter();
        rules.flat_map(|rule| rule.names().clone()).collect()
    }

    #[test]
    fn conditions_are_judged() {
        let profile: SeccompProfile = PROFILE.parse().unwrap();
        let filter = profile.filter(&facts(), &docker_defaults()).unwrap();
        assert_eq!(names(&filter), ["read", "write", "ptrace", "bpf", "personality"]);
        assert_eq!(
            filter.architectures().as_deref(),
            Some(&[Arch::ScmpArchX86_64, Arch::ScmpArchX86][..])
        );
        let all = facts().capabilities;
        let old = HostFacts { kernel: (3, 10), architecture: "arm64".into(), ..facts() };
        let filter = profile.filter(&old, &all).unwrap();
        assert_eq!(
            names(&filter),
            ["read", "write", "clock_settime", "arm_fadvise64_64", "personality"]
        );
    }

    #[test]
    fn a_profile_that_says_nothing_is_no_filter() {
        let profile: SeccompProfile = "{}".parse().unwrap();
        assert_eq!(profile.filter(&facts(), &docker_defaults()), None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (json, expected) in [
            ("x", "Decoding seccomp profile failed: "),
            (r#"{"defaultAction":"NO"}"#, "Decoding seccomp profile failed: unknown action"),
            (
                r#"{"syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ALLOW"}]}"#,
                "both 'name' and 'names' are specified",
            ),
            (
                r#"{"architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86"}]}"#,
                "both 'architectures' and 'archMap' are specified",
            ),
            (
                r#"{"syscalls":[{"names":[],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4"}}]}"#,
                "Decoding seccomp profile failed: invalid kernel version: \"4\"",
            ),
        ] {
            let text = json.parse::<SeccompProfile>().unwrap_err().to_string();
            assert!(text.starts_with(expected), "{json}: {text}");
        }
    }
}
