//! Mounts of create requests, lifted to the newest version.
//!
//! Source: moby `daemon/server/router/container/container_routes.go`.

use docker_wire::containers::ContainerCreateRequest;
use docker_wire::host_config::{BindOptions, Mount};

use crate::api::error::Refusal;

fn mounts(request: &mut ContainerCreateRequest) -> impl Iterator<Item = &mut Mount> {
    request.host_config.iter_mut().flat_map(|host| &mut host.mounts)
}

fn bind_options(request: &mut ContainerCreateRequest) -> impl Iterator<Item = &mut BindOptions> {
    mounts(request).filter_map(|mount| mount.bind_options.as_mut())
}

fn refuse_if(wrong: bool, text: &str) -> Result<(), Refusal> {
    if wrong { Err(Refusal::BadParameter(text.to_owned())) } else { Ok(()) }
}

/// New in 1.40.
pub(super) fn non_recursive_is_ignored(request: &mut ContainerCreateRequest) {
    bind_options(request).for_each(|options| options.non_recursive = false);
}

/// New in 1.42.
pub(super) fn create_mountpoint_is_ignored(request: &mut ContainerCreateRequest) {
    bind_options(request).for_each(|options| options.create_mountpoint = false);
}

/// From 1.42 on the API has words of its own for options of another kind of mount.
pub(super) fn options_must_fit(request: &mut ContainerCreateRequest) -> Result<(), Refusal> {
    for mount in mounts(request) {
        let given = [
            ("volume", "VolumeOptions", mount.volume_options.is_some()),
            ("bind", "BindOptions", mount.bind_options.is_some()),
            ("tmpfs", "TmpfsOptions", mount.tmpfs_options.is_some()),
        ];
        for (kind, field, is_given) in given {
            let text = format!("{field} must not be specified on mount type {:?}", mount.kind);
            refuse_if(is_given && mount.kind != kind, &text)?;
        }
    }
    Ok(())
}

/// 1.44 made read-only reach the mounts below a bind mount.
pub(super) fn read_only_is_not_recursive(
    request: &mut ContainerCreateRequest,
) -> Result<(), Refusal> {
    for mount in mounts(request).filter(|mount| mount.kind == "bind") {
        let forced = mount.bind_options.as_ref().is_some_and(|it| it.read_only_force_recursive);
        refuse_if(forced, "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")?;
        if mount.read_only {
            mount.bind_options.get_or_insert_default().read_only_non_recursive = true;
        }
    }
    Ok(())
}

/// New in 1.45.
pub(super) fn subpath_is_refused(request: &mut ContainerCreateRequest) -> Result<(), Refusal> {
    let given = mounts(request).any(|mount| {
        mount.volume_options.as_ref().is_some_and(|options| !options.subpath.is_empty())
    });
    refuse_if(given, "VolumeOptions.Subpath needs API v1.45 or newer")
}

/// New in 1.48.
pub(super) fn images_are_refused(request: &mut ContainerCreateRequest) -> Result<(), Refusal> {
    let given = mounts(request).any(|mount| mount.kind == "image");
    refuse_if(given, "Mount type \"Image\" needs API v1.48 or newer")
}

/// From 1.48 on it is said that `VolumeDriver` does not mean volumes in the long form.
pub(super) fn volume_driver_is_ignored(request: &mut ContainerCreateRequest) -> Option<String> {
    let has_driver = |host: &docker_wire::host_config::HostConfig| !host.volume_driver.is_empty();
    if !request.host_config.as_ref().is_some_and(has_driver) {
        return None;
    }
    let without_driver = mounts(request).filter(|mount| mount.kind == "volume").any(|mount| {
        let options = mount.volume_options.as_ref();
        let driver = options.and_then(|options| options.driver_config.as_ref());
        driver.is_none_or(|driver| driver.name.is_empty())
    });
    without_driver.then(|| {
        "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use docker_wire::decode;
    use serde_json::{Value, json};

    use crate::api::compat::requests::create;
    use crate::api::version::ApiVersion;

    use super::*;

    fn lifted(minor: u16, mount: Value) -> Result<(Mount, Vec<String>), String> {
        let mut body = json!({"Image": "i", "HostConfig": {"VolumeDriver": "local"}});
        body["HostConfig"]["Mounts"] = Value::Array(vec![mount]);
        let mut request: ContainerCreateRequest = decode::from_value(&body).unwrap();
        let warnings = create(ApiVersion::new(1, minor), &mut request, &body, true)
            .map_err(|refusal| refusal.to_string())?;
        Ok((request.host_config.unwrap().mounts.remove(0), warnings))
    }

    fn bind(options: Value) -> Value {
        let mut mount = json!({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true});
        mount["BindOptions"] = options;
        mount
    }

    fn options(minor: u16, given: Value) -> BindOptions {
        lifted(minor, bind(given)).unwrap().0.bind_options.unwrap()
    }

    #[test]
    fn options_that_are_too_new_are_ignored() {
        assert!(!options(39, json!({"NonRecursive": true})).non_recursive);
        assert!(options(40, json!({"NonRecursive": true})).non_recursive);
        assert!(!options(41, json!({"CreateMountpoint": true})).create_mountpoint);
        assert!(options(42, json!({"CreateMountpoint": true})).create_mountpoint);
        assert!(options(43, json!({})).read_only_non_recursive);
        assert!(!options(44, json!({})).read_only_non_recursive);
    }

    #[test]
    fn what_is_too_new_to_be_ignored_is_refused() {
        let refused = |minor, mount: Value| lifted(minor, mount).unwrap_err();
        let force = bind(json!({"ReadOnlyForceRecursive": true}));
        assert_eq!(
            refused(43, force.clone()),
            "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer"
        );
        assert!(lifted(44, force).is_ok());
        let subpath = json!({"Type": "volume", "Source": "v1", "Target": "/b", "VolumeOptions": {"Subpath": "x"}});
        assert_eq!(refused(44, subpath.clone()), "VolumeOptions.Subpath needs API v1.45 or newer");
        assert!(lifted(45, subpath).is_ok());
        let image = json!({"Type": "image", "Source": "i", "Target": "/b"});
        assert_eq!(refused(47, image.clone()), "Mount type \"Image\" needs API v1.48 or newer");
        assert!(lifted(48, image).is_ok());
    }

    #[test]
    fn options_of_another_kind() {
        let wrong = json!({"Type": "bind", "Source": "/a", "Target": "/b", "VolumeOptions": {}});
        // Until then the parser of mounts says it.
        assert!(lifted(41, wrong.clone()).is_ok());
        assert_eq!(
            lifted(42, wrong).unwrap_err(),
            "VolumeOptions must not be specified on mount type \"bind\""
        );
    }

    #[test]
    fn the_containers_volume_driver_is_not_the_mounts() {
        let mount = json!({"Type": "volume", "Source": "v1", "Target": "/b"});
        assert!(lifted(47, mount.clone()).unwrap().1.is_empty());
        assert!(lifted(48, mount).unwrap().1[0].starts_with("WARNING: the container-wide"));
        let named = json!({"Type": "volume", "Source": "v1", "Target": "/b", "VolumeOptions": {"DriverConfig": {"Name": "local"}}});
        assert!(lifted(48, named).unwrap().1.is_empty());
    }
}
