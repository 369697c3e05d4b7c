//! CDI's changes, applied to a finished spec: they come last, so that nothing resets them.

use oci_spec::runtime::{
    self as runtime, Hooks, LinuxDeviceCgroupBuilder, LinuxDeviceType, MountBuilder, Spec,
};

use super::{ContainerEdits, Hook, Mount};
use crate::oci::Built;
use crate::oci::effective::key;

/// Apply what was looked up for all devices of a container.
pub(in crate::oci) fn apply(spec: &mut Spec, all: &[ContainerEdits]) -> Built<()> {
    for edits in all {
        process(spec, edits);
        devices(spec, edits)?;
        for mount in &edits.mounts {
            let made = bind(mount)?;
            let mounts = spec.mounts_mut().get_or_insert_default();
            mounts.retain(|there| there.destination() != made.destination());
            mounts.push(made);
        }
        for hook in &edits.hooks {
            add_hook(spec.hooks_mut().get_or_insert_default(), hook)?;
        }
    }
    Ok(())
}

/// Variables replace those of the same name.
fn process(spec: &mut Spec, edits: &ContainerEdits) {
    let Some(process) = spec.process_mut() else { return };
    let env = process.env_mut().get_or_insert_default();
    for entry in &edits.env {
        env.retain(|there| key(there) != key(entry));
        env.push(entry.clone());
    }
    let user = process.user_mut();
    let mut groups = user.additional_gids().clone().unwrap_or_default();
    groups.extend(edits.gids.iter().copied().filter(|gid| *gid != 0));
    user.set_additional_gids(Some(groups));
}

fn devices(spec: &mut Spec, edits: &ContainerEdits) -> Built<()> {
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    for (device, access) in &edits.devices {
        let nodes = linux.devices_mut().get_or_insert_default();
        nodes.retain(|there| there.path() != device.path());
        nodes.push(device.clone());
        if !matches!(device.typ(), LinuxDeviceType::B | LinuxDeviceType::C) {
            continue;
        }
        let rule = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(device.typ())
            .major(device.major())
            .minor(device.minor())
            .access(access)
            .build()?;
        let resources = linux.resources_mut().get_or_insert_default();
        resources.devices_mut().get_or_insert_default().push(rule);
    }
    Ok(())
}

fn bind(mount: &Mount) -> Built<runtime::Mount> {
    let kind = if mount.r#type.is_empty() { "bind" } else { &mount.r#type };
    let made = MountBuilder::default()
        .destination(&mount.container_path)
        .source(&mount.host_path)
        .typ(kind);
    if mount.options.is_empty() {
        made.options(["bind".to_owned()]).build()
    } else {
        made.options(mount.options.clone()).build()
    }
}

fn add_hook(hooks: &mut Hooks, hook: &Hook) -> Built<()> {
    let mut made = runtime::HookBuilder::default().path(&hook.path).build()?;
    made.set_args(Some(hook.args.clone()).filter(|args| !args.is_empty()))
        .set_env(Some(hook.env.clone()).filter(|env| !env.is_empty()))
        .set_timeout(hook.timeout);
    let list = match hook.hook_name.as_str() {
        "createContainer" => hooks.create_container_mut(),
        "startContainer" => hooks.start_container_mut(),
        "poststart" => hooks.poststart_mut(),
        "poststop" => hooks.poststop_mut(),
        // The specification's deprecated `prestart` runs where `createRuntime` does.
        _ => hooks.create_runtime_mut(),
    };
    list.get_or_insert_default().push(made);
    Ok(())
}
