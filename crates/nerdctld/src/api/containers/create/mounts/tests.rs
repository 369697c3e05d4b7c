//! Every spelling of a mount, and every refusal in dockerd's words (tried on dockerd 29).

use docker_wire::containers::ContainerCreateRequest;
use docker_wire::decode;
use serde_json::{Value, json};

use super::*;

fn parsed(body: &Value) -> Result<MountsSpec, (u16, String)> {
    let request: ContainerCreateRequest = decode::from_value(body).unwrap();
    mounts(&request.config.unwrap_or_default(), &request.host_config.unwrap_or_default())
        .map_err(|error| (error.status().as_u16(), error.message()))
}

fn of_binds(binds: &[&str]) -> Result<MountsSpec, (u16, String)> {
    parsed(&json!({"Image": "i", "HostConfig": {"Binds": binds}}))
}

fn of_mount(mount: &Value) -> Result<MountsSpec, (u16, String)> {
    parsed(&json!({"Image": "i", "HostConfig": {"Mounts": [mount]}}))
}

fn one(spec: Result<MountsSpec, (u16, String)>) -> MountRequest {
    let mut mounts = spec.unwrap().mounts;
    assert_eq!(mounts.len(), 1);
    mounts.remove(0)
}

fn bind_of(request: &MountRequest) -> &BindWish {
    match &request.what {
        MountWish::Bind(bind) => bind,
        other => panic!("{other:?} is no bind mount"),
    }
}

fn volume_of(request: &MountRequest) -> &VolumeWish {
    match &request.what {
        MountWish::Volume(volume) => volume,
        other => panic!("{other:?} is no volume"),
    }
}

#[test]
fn binds_of_paths() {
    for (raw, source, destination, read_only, propagation) in [
        ("/a:/b", "/a", "/b", false, None),
        ("/a/../c:/b/../d/", "/c", "/d", false, None),
        ("/a:/b:rw", "/a", "/b", false, None),
        ("/a:/b:ro", "/a", "/b", true, None),
        ("/a:/b:z", "/a", "/b", false, None),
        ("/a:/b:Z,ro,rslave", "/a", "/b", true, Some(Propagation::RSlave)),
        ("/a:/b:rshared,rw", "/a", "/b", false, Some(Propagation::RShared)),
        ("/a:/b:private,cached", "/a", "/b", false, Some(Propagation::Private)),
    ] {
        let request = one(of_binds(&[raw]));
        let bind = bind_of(&request);
        assert_eq!(
            (bind.source.as_str(), request.destination.as_str(), request.read_only),
            (source, destination, read_only),
            "{raw}"
        );
        assert_eq!(bind.propagation, propagation, "{raw}");
        assert_eq!((bind.recursive, bind.missing), (true, MissingSource::Make), "{raw}");
        let mode = raw.splitn(3, ':').nth(2).unwrap_or_default();
        assert_eq!(request.mode, mode, "as typed");
    }
}

#[test]
fn binds_of_volumes() {
    for (raw, name, destination, copy_up) in [
        ("data:/b", Some("data"), "/b", true),
        ("data:/x/.", Some("data"), "/x", true),
        ("data:/b:", Some("data"), "/b", true),
        ("data:/b:nocopy,ro", Some("data"), "/b", false),
        ("/b", None, "/b", true),
    ] {
        let request = one(of_binds(&[raw]));
        let volume = volume_of(&request);
        assert_eq!(volume.name.as_ref().map(names::VolumeName::as_str), name, "{raw}");
        assert_eq!((request.destination.as_str(), volume.copy_up), (destination, copy_up), "{raw}");
    }
    let spec = parsed(&json!({
        "Image": "i", "Volumes": {"/c": {}},
        "HostConfig": {"Binds": ["data:/b"], "VolumeDriver": "nope"}
    }))
    .unwrap();
    assert_eq!(volume_of(&spec.mounts[0]).driver, "nope");
    assert_eq!((spec.volume_driver.as_str(), spec.volumes.len()), ("nope", 1));
}

#[test]
fn wrong_binds() {
    for (raw, expected) in [
        ("a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
        ("", "invalid volume specification: ''"),
        (":/b", "invalid volume specification: ':/b'"),
        ("/a:", "invalid volume specification: '/a:'"),
        ("/foo:rw", "invalid volume specification: '/foo:rw'"),
        ("/a:/b:foo", "invalid mode: foo"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:/b:ro,", "invalid mode: ro,"),
        ("/a:/b:Z,z", "invalid mode: Z,z"),
        (
            "/a:/",
            "invalid volume specification: '/a:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
        ),
        (
            "/a:b",
            "invalid volume specification: '/a:b': invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute",
        ),
        (
            "relative",
            "invalid volume specification: 'relative': invalid mount config for type \"volume\": invalid mount path: 'relative' mount path must be absolute",
        ),
        (
            "v2:/b:rshared",
            "invalid volume specification: 'v2:/b:rshared': invalid mount config for type \"volume\": field BindOptions must not be specified",
        ),
        (
            "/a:/b:nocopy",
            "invalid volume specification: '/a:/b:nocopy': invalid mount config for type \"bind\": field VolumeOptions must not be specified",
        ),
        (
            "./x:/b",
            "create ./x: \"./x\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
        ),
        (
            "x:/b",
            "create x: volume name is too short, names should be at least two alphanumeric characters",
        ),
    ] {
        assert_eq!(of_binds(&[raw]).unwrap_err(), (400, expected.to_owned()), "{raw}");
    }
}

#[test]
fn one_place_one_mount() {
    let refused = |host: Value| parsed(&json!({"Image": "i", "HostConfig": host})).unwrap_err().1;
    let mount = |target: &str| json!({"Type": "bind", "Source": "/tmp", "Target": target});
    for (host, place) in [
        (json!({"Binds": ["/a:/b", "/c:/b/"]}), "/b"),
        (json!({"Binds": ["/a:/b"], "Tmpfs": {"/b": ""}}), "/b"),
        (json!({"Binds": ["/a:/b"], "Mounts": [mount("/b")]}), "/b"),
        (json!({"Mounts": [mount("/b"), mount("/b/")]}), "/b/"),
    ] {
        assert_eq!(refused(host), format!("Duplicate mount point: {place}"));
    }
    let hidden = json!({"Tmpfs": {"/b": ""}, "Mounts": [mount("/b")]});
    assert!(parsed(&json!({"Image": "i", "HostConfig": hidden})).is_ok(), "dockerd takes it");
}

#[test]
fn mounts_in_the_long_form() {
    let request = one(of_mount(&json!({
        "Type": "bind", "Source": "/a/", "Target": "/b/", "ReadOnly": true, "Consistency": "foo",
        "BindOptions": {"Propagation": "slave", "NonRecursive": true, "CreateMountpoint": true, "ReadOnlyNonRecursive": true}
    })));
    assert_eq!((request.destination.as_str(), request.read_only), ("/b", true));
    assert_eq!(
        bind_of(&request),
        &BindWish {
            source: "/a".into(),
            propagation: Some(Propagation::Slave),
            recursive: false,
            read_only_depth: ReadOnlyDepth::TopOnly,
            missing: MissingSource::Make,
        }
    );
    let request = one(of_mount(&json!({"Type": "bind", "Source": "/a", "Target": "/b"})));
    assert_eq!(bind_of(&request).missing, MissingSource::Refuse);

    let request = one(of_mount(&json!({
        "Type": "volume", "Source": "data", "Target": "/b",
        "VolumeOptions": {"NoCopy": true, "Labels": {"a": "b"}, "Subpath": "./d/../e", "DriverConfig": {"Name": "local"}}
    })));
    let volume = volume_of(&request);
    assert_eq!(
        (volume.copy_up, volume.subpath.as_str(), volume.labels.len()),
        (false, "./d/../e", 1)
    );

    let request = one(of_mount(&json!({
        "Type": "image", "Source": "nginx", "Target": "/b", "ImageOptions": {"Subpath": "etc"}
    })));
    assert_eq!(request.what, MountWish::Image { image: "nginx".into(), subpath: "etc".into() });
}

#[test]
fn wrong_mounts() {
    for (mount, expected) in [
        (
            json!({"Type": "bind", "Source": "/a", "Target": ""}),
            "bind: field Target must not be empty",
        ),
        (
            json!({"Type": "bind", "Source": "/a", "Target": "b"}),
            "bind: invalid mount path: 'b' mount path must be absolute",
        ),
        (
            json!({"Type": "bind", "Source": "/a", "Target": "/"}),
            "bind: invalid specification: destination can't be '/'",
        ),
        (json!({"Type": "bind", "Target": "/b"}), "bind: field Source must not be empty"),
        (
            json!({"Type": "bind", "Source": "a", "Target": "/b"}),
            "bind: invalid mount path: 'a' mount path must be absolute",
        ),
        (
            json!({"Type": "bind", "Source": "/a", "Target": "/b", "BindOptions": {"Propagation": "foo"}}),
            "bind: invalid propagation mode: foo",
        ),
        (
            json!({"Type": "bind", "Source": "/a", "Target": "/b", "VolumeOptions": {}}),
            "bind: field VolumeOptions must not be specified",
        ),
        (
            json!({"Type": "volume", "Target": "/b", "VolumeOptions": {"Subpath": "x"}}),
            "volume: must not set Subpath when using anonymous volumes",
        ),
        (
            json!({"Type": "volume", "Source": "v1", "Target": "/b", "VolumeOptions": {"Subpath": "a/../../x"}}),
            "volume: subpath must be a relative path within the volume",
        ),
        (
            json!({"Type": "volume", "Source": "v1", "Target": "/b", "VolumeOptions": {"Subpath": "/x"}}),
            "volume: subpath must be a relative path within the volume",
        ),
        (
            json!({"Type": "tmpfs", "Source": "x", "Target": "/b"}),
            "tmpfs: field Source must not be specified",
        ),
        (
            json!({"Type": "tmpfs", "Target": "/b", "TmpfsOptions": {"Options": [["foo"]]}}),
            "tmpfs: invalid option: foo",
        ),
        (
            json!({"Type": "tmpfs", "Target": "/b", "TmpfsOptions": {"Options": [[]]}}),
            "tmpfs: invalid option array length",
        ),
        (json!({"Type": "image", "Target": "/b"}), "image: field Source must not be empty"),
        (
            json!({"Type": "image", "Source": "x", "Target": "/b", "ImageOptions": {"Subpath": "../x"}}),
            "image: subpath must be a relative path within the volume",
        ),
        (json!({"Type": "npipe", "Source": "x", "Target": "/b"}), "npipe: mount type unknown"),
        (json!({"Type": "cluster", "Source": "x", "Target": "/b"}), "cluster: mount type unknown"),
        (json!({"Source": "x", "Target": "/b"}), ": mount type unknown"),
    ] {
        let (kind, text) = expected.split_once(": ").unwrap();
        let expected = format!("invalid mount config for type {kind:?}: {text}");
        assert_eq!(of_mount(&mount).unwrap_err(), (400, expected), "{mount}");
    }
    let reserved = json!({
        "Type": "volume", "Source": "v1", "Target": "/b", "VolumeOptions": {"Labels": {"nerdctl/x": "y"}}
    });
    let (status, text) = of_mount(&reserved).unwrap_err();
    assert_eq!(status, 400);
    assert!(text.contains("reserved"), "{text}");
    let options = json!({
        "Type": "volume", "Source": "v1", "Target": "/b", "VolumeOptions": {"DriverConfig": {"Options": {"type": "nfs"}}}
    });
    let (status, text) = of_mount(&options).unwrap_err();
    assert_eq!(status, 501);
    assert!(text.contains("DriverConfig.Options"), "{text}");
    let both = json!({
        "Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true,
        "BindOptions": {"ReadOnlyNonRecursive": true, "ReadOnlyForceRecursive": true}
    });
    assert_eq!(
        of_mount(&both).unwrap_err().1,
        "mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive"
    );
}

#[test]
fn tmpfs_options() {
    let of = |options: &str| {
        let spec = parsed(&json!({"Image": "i", "HostConfig": {"Tmpfs": {"/b/": options}}}))?;
        Ok::<_, (u16, String)>(spec.tmpfs["/b"].join(","))
    };
    assert_eq!(of("").unwrap(), "noexec,nosuid,nodev,rprivate");
    assert_eq!(of("size=1m,mode=700,exec").unwrap(), "nosuid,nodev,rprivate,size=1m,mode=700,exec");
    assert_eq!(of("size=1m,size=2m,suid,nosuid").unwrap(), "noexec,nodev,rprivate,size=2m,nosuid");
    assert_eq!(of("foo=bar").unwrap_err(), (400, "invalid tmpfs option \"foo\"".to_owned()));
    for (destination, expected) in [
        ("/", "invalid specification: destination can't be '/'"),
        ("/b/../", "invalid specification: destination can't be '/'"),
        ("b", "invalid mount path: 'b' mount path must be absolute"),
        ("", "invalid mount path: '' mount path must be absolute"),
    ] {
        let body = json!({"Image": "i", "HostConfig": {"Tmpfs": {destination: ""}}});
        assert_eq!(parsed(&body).unwrap_err(), (400, expected.to_owned()), "{destination}");
    }
    let request = one(of_mount(&json!({
        "Type": "tmpfs", "Target": "/b", "ReadOnly": true,
        "TmpfsOptions": {"SizeBytes": 1_048_576, "Mode": 0o700, "Options": [["exec"]]}
    })));
    let MountWish::Tmpfs(options) = request.what else { panic!("no tmpfs") };
    assert_eq!(options.join(","), "nosuid,nodev,rprivate,ro,mode=700,size=1m,exec");
}

#[test]
fn sizes_have_the_largest_unit_that_fits() {
    for (bytes, expected) in [(1 << 30, "1g"), (3 << 20, "3m"), (1 << 10, "1k"), (1000, "1000")] {
        assert_eq!(size(bytes), expected);
    }
}

#[test]
fn mounts_of_other_containers() {
    let of = |from: &str| {
        parsed(&json!({"Image": "i", "HostConfig": {"VolumesFrom": [from]}}))
            .map(|mut spec| spec.volumes_from.remove(0))
            .map_err(|(_, text)| text)
    };
    for (from, container, read_only) in [
        ("c", "c", false),
        ("c:ro", "c", true),
        ("c:rw", "c", false),
        ("c:z", "c", false),
        ("c:", "c", false),
    ] {
        assert_eq!(of(from), Ok(VolumesFrom { container: container.into(), read_only }), "{from}");
    }
    assert_eq!(of("").unwrap_err(), "volumes-from specification cannot be an empty string");
    for wrong in ["foo", "nocopy", "rshared"] {
        assert_eq!(of(&format!("c:{wrong}")).unwrap_err(), format!("invalid mode: {wrong}"));
    }
}
