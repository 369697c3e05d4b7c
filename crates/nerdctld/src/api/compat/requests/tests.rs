//! Each row of the history, on both of its sides.

use docker_wire::decode;
use serde_json::json;

use super::super::tests::around;
use super::*;

fn query(raw: &str) -> Query {
    Query::parse(raw).unwrap()
}

fn created(
    version: ApiVersion,
    body: &Value,
) -> Result<(ContainerCreateRequest, Vec<String>), String> {
    let mut request: ContainerCreateRequest = decode::from_value(body).unwrap();
    let warnings =
        create(version, &mut request, body, false).map_err(|refusal| refusal.to_string())?;
    Ok((request, warnings))
}

fn host(version: ApiVersion, body: &Value) -> HostConfig {
    created(version, body).unwrap().0.host_config.unwrap_or_default()
}

#[test]
fn wait_conditions_and_early_heads_since_1_30() {
    let (old, new) = around(30);
    let style = wait(old, &query("condition=removed")).unwrap();
    assert_eq!(
        style,
        WaitStyle { condition: WaitCondition::NotRunning, early_head: false, mute_failure: false }
    );
    assert!(wait(old, &query("condition=nonsense")).is_ok());
    let style = wait(new, &query("condition=removed")).unwrap();
    assert_eq!((style.condition, style.early_head), (WaitCondition::Removed, true));
    assert_eq!(
        wait(new, &query("condition=next-exit")).unwrap().condition,
        WaitCondition::NextExit
    );
    assert_eq!(wait(new, &query("condition=")).unwrap().condition, WaitCondition::NotRunning);
    assert_eq!(
        wait(new, &query("condition=x")).unwrap_err().to_string(),
        "invalid condition: \"x\""
    );
}

#[test]
fn wait_tells_failed_removals_since_1_34() {
    let (old, new) = around(34);
    assert!(wait(old, &query("condition=removed")).unwrap().mute_failure);
    assert!(!wait(old, &query("condition=next-exit")).unwrap().mute_failure);
    assert!(!wait(new, &query("condition=removed")).unwrap().mute_failure);
}

#[test]
fn parameters_and_the_version_that_brought_them() {
    let (old, new) = around(42);
    assert_eq!(
        (stop_signal(old, &query("signal=9")), stop_signal(new, &query("signal=9"))),
        ("", "9")
    );
    let (old, new) = around(32);
    assert_eq!(
        (pull_platform(old, &query("platform=a")), pull_platform(new, &query("platform=a"))),
        ("", "a")
    );
    let (old, new) = around(41);
    assert_eq!(
        (create_platform(old, &query("platform=a")), create_platform(new, &query("platform=a"))),
        ("", "a")
    );
    let (old, new) = around(48);
    let asked = query("platform=a");
    assert_eq!(
        (image_history_platform(old, &asked), image_history_platform(new, &asked)),
        ("", "a")
    );
    let (old, new) = around(50);
    assert!(image_remove_platforms(old, &query("platforms=a")).is_empty());
    assert_eq!(image_remove_platforms(new, &query("platforms=a&platforms=b")), ["a", "b"]);
    let (old, new) = around(25);
    assert_eq!(
        (image_list_pattern(old, &query("filter=a")), image_list_pattern(new, &query("filter=a"))),
        ("a", "")
    );
}

#[test]
fn logs_have_formats_since_1_54() {
    let (old, new) = around(54);
    let none = HeaderMap::new();
    let sequence: HeaderMap =
        [(http::header::ACCEPT, "application/json-seq".parse().unwrap())].into_iter().collect();
    let chosen = |version, text, headers| logs_as_json(version, &query(text), headers).ok();
    assert_eq!(chosen(old, "format=json", &none), Some(None));
    assert_eq!(chosen(new, "format=json", &none), Some(Some("application/x-ndjson")));
    assert_eq!(chosen(new, "format=json", &sequence), Some(Some("application/json-seq")));
    assert_eq!(chosen(old, "format=xml", &sequence), Some(None));
    assert_eq!(chosen(new, "format=xml", &none), None);
    assert_eq!(chosen(new, "", &none), Some(None));
    assert_eq!(chosen(new, "", &sequence), Some(Some("application/json-seq")));
}

#[test]
fn extras_of_image_lists() {
    let all = query("shared-size=1&manifests=1");
    let extras = |version| image_list(version, &all).unwrap();
    let (old, new) = around(42);
    assert_eq!((extras(old).shared_size, extras(new).shared_size), (false, true));
    let (old, new) = around(47);
    assert_eq!((extras(old).manifests, extras(new).manifests), (false, true));
    let (old, new) = around(54);
    assert!(image_list(old, &query("identity=1")).is_ok());
    assert!(image_list(new, &query("identity=1")).is_err());
    assert!(image_list(new, &query("identity=1&manifests=1")).is_ok());
}

#[test]
fn image_inspect_learned_manifests_and_platform() {
    let both = query("manifests=1&platform={}");
    assert_eq!(image_inspect(v(47), &both).unwrap(), (false, ""));
    assert_eq!(image_inspect(v(48), &both).unwrap(), (true, ""));
    assert!(
        image_inspect(v(49), &both).unwrap_err().to_string().starts_with("conflicting options")
    );
    assert_eq!(image_inspect(v(49), &query("platform=x")).unwrap(), (false, "x"));
}

#[test]
fn defaults_that_changed() {
    let body = json!({"Image": "i"});
    let (old, new) = around(40);
    assert_eq!(
        (host(old, &body).ipc_mode.as_str(), host(new, &body).ipc_mode.as_str()),
        ("shareable", "")
    );
    let chosen =
        json!({"Image": "i", "HostConfig": {"IpcMode": "private", "CgroupnsMode": "private"}});
    assert_eq!(host(old, &chosen).ipc_mode, "private");
    let (old, new) = around(41);
    assert_eq!(
        (host(old, &body).cgroupns_mode.as_str(), host(new, &body).cgroupns_mode.as_str()),
        ("host", "")
    );
    assert_eq!(host(old, &chosen).cgroupns_mode, "private");
    let mut request: ContainerCreateRequest = decode::from_value(&body).unwrap();
    create(old, &mut request, &body, true).unwrap();
    assert_eq!(
        request.host_config.unwrap_or_default().cgroupns_mode,
        "",
        "cgroup v2 never had another default"
    );
}

#[test]
fn capabilities_were_there_in_1_40_only() {
    let body = json!({"Image": "i", "hostconfig": {"capabilities": ["CAP_CHOWN"]}});
    assert!(created(v(39), &body).is_ok());
    assert!(created(v(40), &body).unwrap_err().contains("HostConfig.Capabilities"));
    assert!(created(v(41), &body).is_ok());
    assert!(created(v(40), &json!({"Image": "i", "HostConfig": {"Capabilities": []}})).is_ok());
}

#[test]
fn fields_that_old_versions_ignore() {
    let body = json!({
        "Image": "i",
        "Healthcheck": {"StartInterval": 5_000_000},
        "HostConfig": {"ConsoleSize": [24, 80], "Annotations": {"a": "b"}},
        "NetworkingConfig": {"EndpointsConfig": {"n": {"GwPriority": 5}}},
    });
    let (old, new) = around(42);
    assert_eq!((host(old, &body).console_size, host(new, &body).console_size), ([0, 0], [24, 80]));
    let (old, new) = around(43);
    assert_eq!((host(old, &body).annotations.len(), host(new, &body).annotations.len()), (0, 1));
    let interval = |version| {
        created(version, &body).unwrap().0.config.unwrap().healthcheck.unwrap().start_interval
    };
    let (old, new) = around(44);
    assert_eq!((interval(old), interval(new)), (0, 5_000_000));
    let priority = |version| {
        created(version, &body).unwrap().0.networking_config.unwrap().endpoints_config["n"]
            .gw_priority
    };
    let (old, new) = around(48);
    assert_eq!((priority(old), priority(new)), (0, 5));
}

#[test]
fn several_endpoints_since_1_44() {
    let body = json!({"Image": "i", "NetworkingConfig": {"EndpointsConfig": {"b": {}, "a": {}}}});
    let (old, new) = around(44);
    assert_eq!(
        created(old, &body).unwrap_err(),
        "Container cannot be created with multiple network endpoints: a, b"
    );
    assert!(created(new, &body).is_ok());
}

#[test]
fn the_mac_address_went_from_the_container_to_its_endpoint() {
    const WIDE: &str = "02:42:ac:11:00:02";
    let body = json!({"Image": "i", "MacAddress": WIDE});
    let endpoint = |version, body: &Value| {
        let (request, warnings) = created(version, body).unwrap();
        assert_eq!(request.config.unwrap().mac_address, None);
        (
            request.networking_config.unwrap().endpoints_config["default"].mac_address.clone(),
            warnings.len(),
        )
    };
    assert_eq!(endpoint(v(43), &body), (WIDE.to_owned(), 0), "silently");
    assert_eq!(endpoint(v(44), &body), (WIDE.to_owned(), 1), "with a warning");
    assert_eq!(endpoint(v(51), &body), (WIDE.to_owned(), 1));
    assert!(created(v(52), &body).unwrap_err().starts_with("container-wide MAC address"));

    let own = json!({"Image": "i", "NetworkingConfig": {"EndpointsConfig": {"default": {"MacAddress": WIDE}}}});
    let kept = |version| {
        created(version, &own).unwrap().0.networking_config.unwrap().endpoints_config["default"]
            .mac_address
            .clone()
    };
    assert_eq!((kept(v(43)).as_str(), kept(v(44)).as_str()), ("", WIDE));

    let mut two = own;
    two["MacAddress"] = json!("02:42:ac:11:00:03");
    assert!(created(v(44), &two).unwrap_err().contains("must match"));
}

#[test]
fn one_shot_stats_since_1_41() {
    let (old, new) = around(41);
    let query = Query::parse("stream=0&one-shot=1").unwrap();
    assert_eq!(stats(old, &query), StatsStyle { stream: false, one_shot: false });
    assert_eq!(stats(new, &query), StatsStyle { stream: false, one_shot: true });
    let nothing = Query::parse("").unwrap();
    assert_eq!(stats(new, &nothing), StatsStyle { stream: true, one_shot: false });
}

#[test]
fn execs_have_a_console_size_since_1_42() {
    let (old, new) = around(42);
    assert_eq!(exec_console_size(old, Some([24, 80])), None);
    assert_eq!(exec_console_size(new, Some([24, 80])), Some([24, 80]));
}

#[test]
fn websockets_have_all_streams_until_1_41() {
    let (old, new) = around(42);
    assert!(websocket_has_all_streams(old) && !websocket_has_all_streams(new));
}

#[test]
fn platforms_of_archives_since_1_48_and_several_since_1_52() {
    let (old, new) = around(48);
    assert_eq!(image_archive_platforms(old, &query("platform=x")).unwrap(), Vec::<&str>::new());
    assert_eq!(image_archive_platforms(new, &query("platform=x")).unwrap(), ["x"]);
    let (old, new) = around(52);
    let text = image_archive_platforms(old, &query("platform=x&platform=y")).unwrap_err();
    assert!(text.to_string().starts_with("multiple platform parameters are not supported"));
    assert_eq!(image_archive_platforms(new, &query("platform=x&platform=y")).unwrap(), ["x", "y"]);
}

#[test]
fn kinds_of_disk_usage_since_1_42() {
    let (old, new) = around(42);
    assert_eq!(disk_usage_types(old, &query("type=image")), None);
    assert_eq!(disk_usage_types(new, &query("type=image&type=x")), Some(vec!["image", "x"]));
    assert_eq!(disk_usage_types(new, &query("")), None);
}
