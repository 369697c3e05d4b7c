//! The program that runtimes call when the container's namespaces exist, and when they are gone.

use networking::hook::HookCommand;
use oci_spec::runtime::{Hook, HookBuilder, Hooks, HooksBuilder};

use super::Built;

/// How it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookCalls {
    /// Before the container's program starts: attach networks.
    pub create_runtime: HookCommand,
    /// When the task is deleted: detach them.
    pub post_stop: HookCommand,
}

/// No time limits, as in nerdctl's specs: a hook that gives up half-way leaks addresses.
pub(super) fn hooks(calls: &HookCalls) -> Built<Hooks> {
    HooksBuilder::default()
        .create_runtime([hook(&calls.create_runtime)?])
        .poststop([hook(&calls.post_stop)?])
        .build()
}

fn hook(call: &HookCommand) -> Built<Hook> {
    HookBuilder::default().path(&call.path).args(call.args.clone()).env(call.env.clone()).build()
}
