//! Protobuf messages that containerd uses inside `Any` and that the generated client lacks.
//!
//! Field numbers as in containerd `api/types/runc/options/oci.proto`; the message name is the same
//! from 1.6 to 2.x.

/// Options of the runc shim (`containerd.runc.v1.Options`): of a container's runtime, or of one
/// task, where they replace the container's.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RuncOptions {
    /// Do not use `pivot_root` (ramdisk hosts).
    #[prost(bool, tag = "1")]
    pub no_pivot_root: bool,
    /// Do not create a session keyring.
    #[prost(bool, tag = "2")]
    pub no_new_keyring: bool,
    /// Cgroup to place the shim in.
    #[prost(string, tag = "3")]
    pub shim_cgroup: String,
    /// Owner of the stdio pipes.
    #[prost(uint32, tag = "4")]
    pub io_uid: u32,
    /// Group of the stdio pipes.
    #[prost(uint32, tag = "5")]
    pub io_gid: u32,
    /// OCI runtime binary: `runc`, `crun`, a path.
    #[prost(string, tag = "6")]
    pub binary_name: String,
    /// State directory of the OCI runtime; empty = `/run/containerd/runc`.
    #[prost(string, tag = "7")]
    pub root: String,
    /// Whether cgroup paths are systemd's (`slice:prefix:name`).
    #[prost(bool, tag = "9")]
    pub systemd_cgroup: bool,
    /// Where to restore a checkpoint from.
    #[prost(string, tag = "10")]
    pub criu_image_path: String,
    /// Work directory of criu.
    #[prost(string, tag = "11")]
    pub criu_work_path: String,
}

impl prost::Name for RuncOptions {
    const NAME: &'static str = "Options";
    const PACKAGE: &'static str = "containerd.runc.v1";
}

/// What the runc shim adds to a process in a process list (`containerd.runc.v1.ProcessDetails`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct ProcessDetails {
    /// The exec that this process is the first of.
    #[prost(string, tag = "1")]
    pub(crate) exec_id: String,
}

impl prost::Name for ProcessDetails {
    const NAME: &'static str = "ProcessDetails";
    const PACKAGE: &'static str = "containerd.runc.v1";
}
