//! containerd's `Any`: a type name and bytes.
//!
//! containerd writes the bare name (`containerd.runc.v1.Options`) into `type_url`, where protobuf
//! libraries expect `type.googleapis.com/…` and refuse anything without a slash. Types that are
//! not protobuf, such as the OCI runtime spec, travel as JSON (containerd `runtime/typeurl.go`).

use prost::{Message, Name};

use crate::messages::RuncOptions;
use crate::{Error, Result};

/// The OCI runtime spec of a container, JSON.
pub const OCI_SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
/// The OCI process of an exec, JSON.
pub const OCI_PROCESS: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
/// OCI resource limits for a running task, JSON.
pub const OCI_LINUX_RESOURCES: &str =
    "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

/// A value whose type is named beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Any {
    /// Name of the type, without a host in front when containerd wrote it.
    pub type_url: String,
    /// The value: protobuf, or JSON for the OCI types.
    pub value: Vec<u8>,
}

impl Any {
    /// A value of our own choice, such as a container extension.
    pub fn new(type_url: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { type_url: type_url.into(), value: value.into() }
    }

    /// An OCI runtime spec, given as JSON. containerd writes these bytes to `config.json` as they
    /// are.
    pub fn oci_spec(json: impl Into<Vec<u8>>) -> Self {
        Self::new(OCI_SPEC, json)
    }

    /// The OCI process of an exec, given as JSON.
    pub fn oci_process(json: impl Into<Vec<u8>>) -> Self {
        Self::new(OCI_PROCESS, json)
    }

    /// OCI resource limits, given as JSON.
    pub fn linux_resources(json: impl Into<Vec<u8>>) -> Self {
        Self::new(OCI_LINUX_RESOURCES, json)
    }

    /// Options of the runc shim.
    #[must_use]
    pub fn runc_options(options: &RuncOptions) -> Self {
        Self::message(options)
    }

    /// The options of the runc shim in this value, if that is what it holds.
    ///
    /// # Errors
    /// [`crate::Kind::UnexpectedAnswer`] when the bytes are no such message.
    pub fn as_runc_options(&self) -> Result<Option<RuncOptions>> {
        self.decode()
    }

    /// Whether this is a value of that type. A host in front of either name does not matter.
    #[must_use]
    pub fn is(&self, type_url: &str) -> bool {
        bare(&self.type_url) == bare(type_url)
    }

    /// A protobuf message under its bare full name.
    pub(crate) fn message<M: Message + Name>(message: &M) -> Self {
        Self::new(M::full_name(), message.encode_to_vec())
    }

    /// The message, if the type is `M`.
    pub(crate) fn decode<M: Message + Name + Default>(&self) -> Result<Option<M>> {
        if !self.is(&M::full_name()) {
            return Ok(None);
        }
        M::decode(self.value.as_slice())
            .map(Some)
            .map_err(|cause| Error::unexpected("decode", &self.type_url, cause.to_string()))
    }
}

/// The name without the host that other protobuf users put in front. containerd's own names of
/// OCI types have slashes too, so only this host goes.
fn bare(type_url: &str) -> &str {
    type_url.strip_prefix("type.googleapis.com/").unwrap_or(type_url)
}

impl From<prost_types::Any> for Any {
    fn from(any: prost_types::Any) -> Self {
        Self { type_url: any.type_url, value: any.value }
    }
}

impl From<Any> for prost_types::Any {
    fn from(any: Any) -> Self {
        Self { type_url: any.type_url, value: any.value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runc_options_travel_under_their_bare_name() {
        let options = RuncOptions {
            binary_name: "crun".into(),
            systemd_cgroup: true,
            ..RuncOptions::default()
        };
        let any = Any::runc_options(&options);
        assert_eq!(any.type_url, "containerd.runc.v1.Options");
        assert_eq!(any.as_runc_options().unwrap(), Some(options));
    }

    #[test]
    fn the_host_in_front_does_not_matter() {
        let any = Any::new("type.googleapis.com/containerd.runc.v1.Options", Vec::new());
        assert_eq!(any.as_runc_options().unwrap(), Some(RuncOptions::default()));
        assert!(Any::oci_spec("{}").is(OCI_SPEC));
        assert!(!Any::oci_spec("{}").is(OCI_PROCESS));
    }

    #[test]
    fn another_type_is_none_and_rubbish_is_an_error() {
        assert_eq!(Any::oci_spec("{}").as_runc_options().unwrap(), None);
        assert!(Any::new("containerd.runc.v1.Options", vec![0xff]).as_runc_options().is_err());
    }
}
