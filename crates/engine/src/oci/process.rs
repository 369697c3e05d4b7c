//! The container's first process.

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    BoxBuilder, Capabilities, PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process,
};

use super::effective::key;
use super::user::Ids;
use super::{Built, HostFacts, SpecInput, capabilities, security, system_mounts};
use crate::containers::spec::confinement::Ulimit;

/// Where programs are looked for unless image or user say otherwise (moby `daemon/pkg/oci/defaults.go`).
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The process that `ids` run with `capabilities`.
pub(super) fn process(
    input: &SpecInput<'_>,
    ids: &Ids,
    capabilities: Capabilities,
) -> Built<Process> {
    let container = input.container;
    let mut process = Process::default();
    process.set_terminal(Some(container.tty));
    if let (true, Some((height, width))) = (container.tty, container.console_size) {
        let size = BoxBuilder::default().height(height).width(width).build()?;
        process.set_console_size(Some(size));
    }
    process.set_user(ids.to_user()?);
    process.set_args(Some(args(input)));
    process.set_env(Some(env(&input.effective.env, input.hostname, container.tty)));
    process.set_cwd(input.effective.working_dir.clone().into());
    process.set_capabilities(Some(capabilities::sets(capabilities)));
    let asked = &container.confinement;
    process.set_no_new_privileges(Some(asked.security.no_new_privileges));
    // What was not asked for the container inherits from the shim, for which containerd's service raises it.
    let rlimits = asked.ulimits.iter().map(rlimit).collect::<Built<Vec<_>>>()?;
    process.set_rlimits(Some(rlimits).filter(|list| !list.is_empty()));
    process.set_oom_score_adj(Some(oom_score_adj(asked.oom_score_adj, input.host)));
    process.set_apparmor_profile(security::apparmor_profile(&asked.security, input.host));
    Ok(process)
}

/// The program, or the init that starts it.
fn args(input: &SpecInput<'_>) -> Vec<String> {
    let program = input.effective.args();
    if !system_mounts::has_init(&input.container.confinement) {
        return program;
    }
    [system_mounts::INIT.to_owned(), "--".to_owned()].into_iter().chain(program).collect()
}

fn rlimit(limit: &Ulimit) -> Built<PosixRlimit> {
    let kind: PosixRlimitType = format!("RLIMIT_{}", limit.name().to_uppercase())
        .parse()
        .map_err(|error| OciSpecError::Other(format!("ulimit {}: {error}", limit.name())))?;
    PosixRlimitBuilder::default().typ(kind).soft(limit.soft()).hard(limit.hard()).build()
}

/// What was asked for. Nobody can go below the lowest in a user namespace; elsewhere the runtime tells whether it can.
fn oom_score_adj(asked: i32, host: &HostFacts) -> i32 {
    if asked == 0 || host.rootless { asked.max(host.oom_score_adj) } else { asked }
}

/// Docker's own variables, replaced or removed by the configured ones (moby `daemon/container/env.go`).
fn env(configured: &[String], hostname: &str, tty: bool) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if tty {
        env.push("TERM=xterm".to_owned());
    }
    override_env(&mut env, configured);
    env
}

/// Put variables over others: `KEY=value` replaces or adds, a bare `KEY` takes away (moby `daemon/container/env.go`).
pub(crate) fn override_env(env: &mut Vec<String>, overrides: &[String]) {
    for entry in overrides {
        let known = env.iter().position(|own| key(own) == key(entry));
        match (entry.contains('='), known) {
            (true, Some(at)) => env[at].clone_from(entry),
            (true, None) => env.push(entry.clone()),
            (false, Some(at)) => {
                env.remove(at);
            }
            (false, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(configured: &[&str], tty: bool) -> Vec<String> {
        let configured: Vec<_> = configured.iter().map(|entry| (*entry).to_owned()).collect();
        env(&configured, "box", tty)
    }

    #[test]
    fn defaults_can_be_replaced_and_removed() {
        assert_eq!(of(&[], false), [DEFAULT_PATH, "HOSTNAME=box"]);
        assert_eq!(of(&["PATH=/x", "A=1"], true), ["PATH=/x", "HOSTNAME=box", "TERM=xterm", "A=1"]);
        assert_eq!(of(&["TERM", "HOSTNAME", "NONE"], true), [DEFAULT_PATH]);
        assert_eq!(of(&["A=1", "A=2", "B="], false), [DEFAULT_PATH, "HOSTNAME=box", "A=2", "B="]);
    }
}
