//! Each row of the history, on both of its sides.

use std::collections::BTreeMap;

use docker_wire::containers::{HealthSummary, RootFsSnapshot, RootFsStorage, Storage};
use docker_wire::distribution::Descriptor;
use docker_wire::images::ImageIdentity;
use docker_wire::networks::NetworkStatus;
use docker_wire::system::DiskUsageTotals;
use docker_wire::system::{ContainerdInfo, FirewallInfo, RegistryServiceConfig, Runtime};
use serde_json::{Value, json};

use super::super::tests::around;
use super::*;

fn json_of<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap()
}

fn shown_info(version: ApiVersion) -> Value {
    let status = BTreeMap::from([("features".to_owned(), "{}".to_owned())]);
    let mut newest = Info {
        runtimes: BTreeMap::from([("runc".to_owned(), Runtime { status, ..Runtime::default() })]),
        containerd: Some(ContainerdInfo::default()),
        registry_config: Some(RegistryServiceConfig::default()),
        firewall_backend: Some(FirewallInfo::default()),
        containerd_commit: Commit { id: "abc".to_owned(), expected: None },
        ..Info::default()
    };
    info(version, &mut newest);
    json_of(&newest)
}

#[test]
fn info_row_by_row() {
    let has = |version, pointer: &str| shown_info(version).pointer(pointer).cloned();
    let (old, new) = around(44);
    assert_eq!(has(old, "/Runtimes/runc/status"), None);
    assert_eq!(has(new, "/Runtimes/runc/status"), Some(json!({"features": "{}"})));
    let (old, new) = around(46);
    assert_eq!(
        (has(old, "/Containerd").is_some(), has(new, "/Containerd").is_some()),
        (false, true)
    );
    let (old, new) = around(47);
    let pointer = "/RegistryConfig/AllowNondistributableArtifactsCIDRs";
    assert_eq!((has(old, pointer), has(new, pointer)), (Some(Value::Null), None));
    let (old, new) = around(49);
    assert_eq!(
        (has(old, "/FirewallBackend").is_some(), has(new, "/FirewallBackend").is_some()),
        (false, true)
    );
    let pointer = "/ContainerdCommit/Expected";
    assert_eq!((has(old, pointer), has(new, pointer)), (Some(json!("abc")), None));
    let (old, new) = around(50);
    assert_eq!(
        (has(old, "/BridgeNfIptables"), has(new, "/BridgeNfIptables")),
        (Some(json!(false)), None)
    );
    assert_eq!(
        (has(old, "/BridgeNfIp6tables"), has(new, "/BridgeNfIp6tables")),
        (Some(json!(false)), None)
    );
}

#[test]
fn framed_streams_have_a_name_since_1_42() {
    let (old, new) = around(42);
    assert_eq!(
        (stream_type(old, false), stream_type(new, false)),
        (RAW_STREAM, MULTIPLEXED_STREAM)
    );
    assert_eq!(stream_type(new, true), RAW_STREAM);
}

#[test]
fn container_lists_row_by_row() {
    let shown = |version| {
        let mut summary = ContainerSummary {
            image_manifest_descriptor: Some(Descriptor::default()),
            health: Some(HealthSummary::default()),
            ..ContainerSummary::default()
        };
        summary.host_config.annotations.insert("a".to_owned(), "b".to_owned());
        container_summary(version, &mut summary);
        json_of(&summary)
    };
    let has = |version, pointer: &str| shown(version).pointer(pointer).is_some();
    for (minor, pointer) in
        [(46, "/HostConfig/Annotations"), (48, "/ImageManifestDescriptor"), (52, "/Health")]
    {
        let (old, new) = around(minor);
        assert_eq!((has(old, pointer), has(new, pointer)), (false, true), "{pointer}");
    }
}

fn inspected(version: ApiVersion) -> Value {
    let endpoint = EndpointSettings {
        ip_address: "10.4.0.2".to_owned(),
        ip_prefix_len: 24,
        ..EndpointSettings::default()
    };
    let snapshot = Some(RootFsSnapshot { name: "overlayfs".to_owned() });
    let mut container = ContainerInspect {
        id: "0123456789abcdef".repeat(4),
        storage: Some(Storage { root_fs: Some(RootFsStorage { snapshot }) }),
        image_manifest_descriptor: Some(Descriptor::default()),
        ..ContainerInspect::default()
    };
    container.config.hostname = "box".to_owned();
    container.network_settings.networks =
        BTreeMap::from([("bridge".to_owned(), endpoint.clone()), ("mine".to_owned(), endpoint)]);
    container_inspect(version, &mut container);
    json_of(&container)
}

#[test]
fn container_inspect_row_by_row() {
    let (old, new) = around(45);
    let aliases =
        |version| inspected(version)["NetworkSettings"]["Networks"]["mine"]["Aliases"].clone();
    assert_eq!((aliases(old), aliases(new)), (json!(["0123456789ab", "box"]), Value::Null));
    assert_eq!(inspected(old)["NetworkSettings"]["Networks"]["bridge"]["Aliases"], Value::Null);
    let (old, new) = around(48);
    let has = |version, pointer: &str| inspected(version).pointer(pointer).cloned();
    assert_eq!(
        (has(old, "/ImageManifestDescriptor"), has(new, "/ImageManifestDescriptor").is_some()),
        (None, true)
    );
    let (old, new) = around(52);
    assert_eq!(
        (has(old, "/NetworkSettings/IPAddress"), has(new, "/NetworkSettings/IPAddress")),
        (Some(json!("10.4.0.2")), None)
    );
    assert_eq!(has(old, "/NetworkSettings/IPPrefixLen"), Some(json!(24)));
    assert_eq!(
        (has(old, "/GraphDriver"), has(new, "/GraphDriver")),
        (Some(json!({"Name": "overlayfs", "Data": null})), None)
    );
    assert_eq!((has(old, "/Storage"), has(new, "/Storage").is_some()), (None, true));
    assert_eq!(
        (has(old, "/Config/OnBuild"), has(new, "/Config/OnBuild")),
        (Some(Value::Null), None)
    );
}

#[test]
fn image_lists_row_by_row() {
    let shown = |version| {
        let mut list = [ImageSummary {
            size: 7,
            containers: 2,
            descriptor: Some(Descriptor::default()),
            ..ImageSummary::default()
        }];
        image_list(version, &mut list);
        json_of(&list[0])
    };
    let (old, new) = around(43);
    assert_eq!(
        (&shown(old)["RepoTags"], &shown(new)["RepoTags"]),
        (&json!(["<none>:<none>"]), &json!([]))
    );
    assert_eq!(
        (&shown(old)["RepoDigests"], &shown(new)["RepoDigests"]),
        (&json!(["<none>@<none>"]), &json!([]))
    );
    let (old, new) = around(44);
    assert_eq!(
        (shown(old).get("VirtualSize"), shown(new).get("VirtualSize")),
        (Some(&json!(7)), None)
    );
    let (old, new) = around(48);
    assert_eq!(
        (shown(old).get("Descriptor").is_some(), shown(new).get("Descriptor").is_some()),
        (false, true)
    );
    let (old, new) = around(51);
    assert_eq!((&shown(old)["Containers"], &shown(new)["Containers"]), (&json!(-1), &json!(2)));
}

fn inspected_image(version: ApiVersion) -> Value {
    let mut image = ImageInspect {
        size: 7,
        descriptor: Some(Descriptor::default()),
        identity: Some(ImageIdentity::default()),
        graph_driver: Some(DriverData { data: None, name: "overlayfs".to_owned() }),
        config: ImageInspectConfig::Current(ImageConfig {
            cmd: vec!["sh".to_owned()],
            ..ImageConfig::default()
        }),
        ..ImageInspect::default()
    };
    image_inspect(version, &mut image);
    json_of(&image)
}

#[test]
fn image_inspect_row_by_row() {
    let has = |version, pointer: &str| inspected_image(version).pointer(pointer).cloned();
    let (old, new) = around(44);
    assert_eq!((has(old, "/VirtualSize"), has(new, "/VirtualSize")), (Some(json!(7)), None));
    assert_eq!((has(old, "/Created"), has(new, "/Created")), (Some(json!(time::ZERO)), None));
    let (old, new) = around(45);
    assert_eq!((has(old, "/Container"), has(new, "/Container")), (Some(json!("")), None));
    assert_eq!(
        (has(old, "/ContainerConfig"), has(new, "/ContainerConfig")),
        (Some(Value::Null), None)
    );
    let (old, new) = around(48);
    assert_eq!((has(old, "/Descriptor"), has(new, "/Descriptor").is_some()), (None, true));
    let (old, new) = around(50);
    assert_eq!(
        (has(old, "/Config/AttachStdin"), has(new, "/Config/AttachStdin")),
        (Some(json!(false)), None)
    );
    assert_eq!(
        (has(old, "/Config/Labels"), has(new, "/Config/Labels")),
        (Some(Value::Null), Some(Value::Null))
    );
    let (old, new) = around(52);
    for name in ["Parent", "Comment", "DockerVersion", "Author"] {
        let pointer = format!("/{name}");
        assert_eq!((has(old, &pointer), has(new, &pointer)), (Some(json!("")), None), "{name}");
    }
    assert_eq!((has(old, "/Config/Env"), has(new, "/Config/Env")), (Some(Value::Null), None));
    assert_eq!(
        (has(old, "/Config/Cmd"), has(new, "/Config/Cmd")),
        (Some(json!(["sh"])), Some(json!(["sh"])))
    );
    assert_eq!((has(old, "/GraphDriver").is_some(), has(new, "/GraphDriver")), (true, None));
    let (old, new) = around(53);
    assert_eq!((has(old, "/Identity"), has(new, "/Identity").is_some()), (None, true));
}

#[test]
fn containers_in_lists_of_networks_until_1_28() {
    let (before, after) = around(28);
    for (version, shown) in [(before, true), (after, false)] {
        let mut listed = Network { containers: Some(BTreeMap::new()), ..Network::default() };
        network_in_list(version, &mut listed);
        assert_eq!(listed.containers.is_some(), shown, "{version:?}");
    }
}

#[test]
fn networks_tell_how_full_they_are_from_1_52() {
    let (before, after) = around(52);
    for (version, shown) in [(before, false), (after, true)] {
        let mut inspected =
            Network { status: Some(NetworkStatus::default()), ..Network::default() };
        network(version, &mut inspected);
        assert_eq!(inspected.status.is_some(), shown, "{version:?}");
    }
}

#[test]
fn websockets_are_binary_since_1_28() {
    let (old, new) = around(28);
    assert_eq!(
        (websocket_kind(old), websocket_kind(new)),
        (MessageKind::Text, MessageKind::Binary)
    );
}

#[test]
fn disk_usage_has_totals_since_1_52_and_virtual_sizes_until_1_43() {
    let usage = || DiskUsage {
        image_usage: Some(DiskUsageTotals {
            items: vec![ImageSummary { size: 7, ..ImageSummary::default() }],
            total_size: 9,
            ..DiskUsageTotals::default()
        }),
        ..DiskUsage::default()
    };
    let keys = |version, verbose| {
        let shown = serde_json::to_value(disk_usage(version, usage(), verbose)).unwrap();
        shown.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    let (old, new) = around(52);
    assert_eq!(keys(old, true), ["Images", "LayersSize"], "nobody knew of verbose");
    assert_eq!(keys(new, false), ["ImageUsage", "Images", "LayersSize"]);
    assert_eq!(keys(new, true), ["ImageUsage"]);
    let (old, new) = around(44);
    let virtual_size = |version| {
        let legacy = disk_usage(version, usage(), false).legacy.unwrap();
        legacy.images.unwrap()[0].virtual_size
    };
    assert_eq!((virtual_size(old), virtual_size(new)), (Some(7), None));
}
