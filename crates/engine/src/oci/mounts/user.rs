//! What was asked to be mounted, as the OCI spec says it.
//!
//! Source: moby `daemon/oci_linux.go`, `withMounts`, and `daemon/volumes_unix.go`, `setupMounts`.

use std::path::Path;

use oci_spec::runtime::Mount;

use super::mount;
use crate::containers::mounts::{BindSource, ImageSource, MountPlan, MountSource, ReadOnly};
use crate::containers::spec::mounts::Propagation;
use crate::oci::Built;

/// The mounts that are really made: a tmpfs of `HostConfig.Tmpfs` hides another mount at its destination.
pub(super) fn effective(plans: &[MountPlan]) -> impl Iterator<Item = &MountPlan> {
    let hidden = |plan: &MountPlan| {
        !plan.is_unlisted()
            && plans
                .iter()
                .any(|other| other.is_unlisted() && other.destination == plan.destination)
    };
    plans.iter().filter(move |plan| !hidden(plan))
}

/// One mount.
pub(super) fn user_mount(plan: &MountPlan) -> Built<Mount> {
    let destination = plan.destination.as_str();
    match &plan.source {
        MountSource::Tmpfs(tmpfs) => {
            let options: Vec<&str> = tmpfs.options.iter().map(String::as_str).collect();
            mount(destination, "tmpfs", Path::new("tmpfs"), &options)
        }
        MountSource::Bind(bind) => {
            mount(destination, "bind", &bind.path, &bind_options(bind, plan.read_only))
        }
        MountSource::Volume(volume) => {
            let options: Vec<&str> =
                std::iter::once("rbind").chain(read_only_option(plan.read_only)).collect();
            mount(destination, "bind", &volume.path(), &options)
        }
        MountSource::Image(image) => image_mount(destination, image),
    }
}

fn bind_options(bind: &BindSource, read_only: ReadOnly) -> Vec<&str> {
    let kind = if bind.recursive { "rbind" } else { "bind" };
    [kind]
        .into_iter()
        .chain(read_only_option(read_only))
        .chain([bind.propagation.as_str()])
        .chain(bind.locked.iter().map(String::as_str))
        .collect()
}

fn read_only_option(read_only: ReadOnly) -> Option<&'static str> {
    match read_only {
        ReadOnly::No => None,
        ReadOnly::Top => Some("ro"),
        ReadOnly::Recursive => Some("rro"),
    }
}

/// The runtime puts the image's layers together itself, so nothing is mounted on the host.
fn image_mount(destination: &str, image: &ImageSource) -> Built<Mount> {
    let mut options: Vec<&str> = image.options.iter().map(String::as_str).collect();
    for needed in ["ro", Propagation::RPrivate.as_str()] {
        if !options.contains(&needed) {
            options.push(needed);
        }
    }
    mount(destination, &image.kind, Path::new(&image.from), &options)
}

/// How the root of the container's tree has to be propagated for what is mounted below it; nothing for the usual.
pub(in crate::oci) fn root_propagation(plans: &[MountPlan]) -> Option<&'static str> {
    let binds = effective(plans).filter_map(|plan| match &plan.source {
        MountSource::Bind(bind) => Some(bind.propagation),
        _ => None,
    });
    let mut found = None;
    for propagation in binds {
        match propagation {
            Propagation::Shared | Propagation::RShared => return Some("shared"),
            Propagation::Slave | Propagation::RSlave => found = Some("rslave"),
            Propagation::Private | Propagation::RPrivate => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::mounts::TmpfsSource;
    use crate::containers::mounts::tests::{bind, plan, volume};

    fn options(plan: &MountPlan) -> String {
        user_mount(plan).unwrap().options().clone().unwrap_or_default().join(",")
    }

    fn with(propagation: Propagation) -> MountPlan {
        let mut plan = plan("/x", bind("/srv"));
        if let MountSource::Bind(bind) = &mut plan.source {
            bind.propagation = propagation;
        }
        plan
    }

    #[test]
    fn options_as_dockerd_writes_them() {
        let mut plan = plan("/x", bind("/srv"));
        assert_eq!(options(&plan), "rbind,rprivate");
        plan.read_only = ReadOnly::Recursive;
        assert_eq!(options(&plan), "rbind,rro,rprivate");
        plan.read_only = ReadOnly::Top;
        if let MountSource::Bind(bind) = &mut plan.source {
            bind.recursive = false;
        }
        assert_eq!(options(&plan), "bind,ro,rprivate");
        plan.source = volume("data");
        assert_eq!(options(&plan), "rbind,ro");
    }

    #[test]
    fn an_image_is_read_only_whatever_the_snapshotter_says() {
        let image = ImageSource {
            image: "nginx".into(),
            id: "sha256:0".into(),
            snapshot: "view".into(),
            subpath: String::new(),
            kind: "overlay".into(),
            from: "overlay".into(),
            options: vec!["lowerdir=/a:/b".into()],
        };
        let plan = plan("/x", MountSource::Image(image));
        assert_eq!(options(&plan), "lowerdir=/a:/b,ro,rprivate");
    }

    #[test]
    fn the_roots_propagation_follows_the_mounts() {
        use Propagation::{RPrivate, RSlave, Shared};
        for (modes, expected) in [
            (vec![RPrivate], None),
            (vec![RSlave, RPrivate], Some("rslave")),
            (vec![RSlave, Shared], Some("shared")),
            (vec![], None),
        ] {
            let plans: Vec<_> = modes.iter().map(|mode| with(*mode)).collect();
            assert_eq!(root_propagation(&plans), expected, "{modes:?}");
        }
    }

    #[test]
    fn tmpfs_of_the_old_form_hides_other_mounts() {
        let tmpfs = MountSource::Tmpfs(TmpfsSource { options: Vec::new(), unlisted: true });
        let plans = [plan("/x", bind("/srv")), plan("/y", bind("/srv")), plan("/x", tmpfs)];
        let kept: Vec<_> = effective(&plans).map(|plan| plan.destination.as_str()).collect();
        assert_eq!(kept, ["/y", "/x"]);
        assert!(plans[2].is_unlisted());
    }
}
