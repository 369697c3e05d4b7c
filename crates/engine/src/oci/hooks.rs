//! The program that runtimes call when the container's namespaces exist, and when they are gone.

use std::path::PathBuf;

use oci_spec::runtime::{Hook, HookBuilder, Hooks, HooksBuilder};

use super::Built;

/// One call of a hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookCall {
    /// The program, absolute: it must outlive this daemon and its upgrades.
    pub path: PathBuf,
    /// Its arguments, its own name first.
    pub args: Vec<String>,
    /// Its environment, whole.
    pub env: Vec<String>,
}

/// Both calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookCalls {
    /// Before the container's program starts: attach networks.
    pub create_runtime: HookCall,
    /// When the task is deleted: detach them.
    pub post_stop: HookCall,
}

/// No time limits, as in nerdctl's specs: a hook that gives up half-way leaks addresses.
pub(super) fn hooks(calls: &HookCalls) -> Built<Hooks> {
    HooksBuilder::default()
        .create_runtime([hook(&calls.create_runtime)?])
        .poststop([hook(&calls.post_stop)?])
        .build()
}

fn hook(call: &HookCall) -> Built<Hook> {
    HookBuilder::default().path(&call.path).args(call.args.clone()).env(call.env.clone()).build()
}
