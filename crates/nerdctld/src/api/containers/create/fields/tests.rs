//! Every field of Docker's specification is understood or refused by name; none is dropped.

use docker_wire::containers::ContainerCreateRequest;
use serde_json::{Value, json};

use super::*;

/// Every field of `POST /containers/create` in Docker's specification of API 1.55, and its type: made from the swagger
/// file's definitions `ContainerConfig`, `HostConfig`, `Resources` and `EndpointSettings`.
const SPECIFICATION: &str = include_str!("../fields-1.55.txt");

/// What a daemon fills in and tools send back; ignored, as in dockerd.
const OPERATIONAL: [&str; 9] = [
    "NetworkID",
    "EndpointID",
    "Gateway",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "DNSNames",
];

fn fields() -> impl Iterator<Item = (&'static str, &'static str)> {
    SPECIFICATION.lines().map(|line| line.split_once('\t').unwrap())
}

/// A request with one field set to something that is no default of anybody.
fn request_with(field: &str, kind: &str) -> ContainerCreateRequest {
    let samples: &[Value] = match kind {
        "string" => &[json!("unlikely")],
        "integer" => &[json!(7)],
        "boolean" => &[json!(true)],
        "list" => &[
            json!(["unlikely"]),
            json!([7, 7]),
            json!([{"Name": "unlikely", "Path": "/unlikely"}]),
        ],
        "map" => &[
            json!({"unlikely": "unlikely"}),
            json!({"1/tcp": {}}),
            json!({"1/tcp": [{"HostPort": "1"}]}),
        ],
        other => panic!("{other} is no type of the specification"),
    };
    let bodies = samples.iter().map(|sample| {
        field
            .replace('*', "bridge")
            .rsplit('.')
            .fold(sample.clone(), |value, name| json!({ name: value }))
    });
    let mut requests =
        bodies.filter_map(|body| decode::from_value::<ContainerCreateRequest>(&body).ok());
    requests.next().unwrap_or_else(|| panic!("no sample fits {field}"))
}

#[test]
fn every_field_is_understood_or_refused_by_name() {
    let mut understood = Vec::new();
    for (field, kind) in fields() {
        match not_understood(&request_with(field, kind)) {
            None => understood.push(field),
            Some(named) => {
                let field = field.replace('*', "bridge");
                assert!(
                    named.starts_with(&field) || field.starts_with(&named),
                    "{field} is refused as {named}"
                );
            }
        }
    }
    let operational: Vec<String> = OPERATIONAL
        .iter()
        .map(|name| format!("NetworkingConfig.EndpointsConfig.*.{name}"))
        .collect();
    for field in &understood {
        let listed = ACCEPTED.iter().any(|(name, _)| name == field);
        assert!(
            listed || operational.iter().any(|name| name == field),
            "{field} is dropped silently"
        );
    }
    for (field, _) in ACCEPTED.iter().filter(|(_, how)| matches!(how, Any)) {
        // The sample of the map of endpoints names a network, which is refused.
        let judged = *field == "NetworkingConfig.EndpointsConfig";
        assert!(
            judged || understood.contains(field),
            "{field} is listed as understood and refused"
        );
    }
}

#[test]
fn every_accepted_field_is_one_of_dockers() {
    for (field, _) in ACCEPTED {
        assert!(fields().any(|(name, _)| name == *field), "{field} is none");
    }
}

fn refused(body: &Value) -> Option<String> {
    not_understood(&decode::from_value(body).unwrap())
}

#[test]
fn defaults_spelled_out_are_no_wishes() {
    assert_eq!(
        refused(&json!({
            "Image": "i", "Healthcheck": {"Test": ["NONE"]},
            "HostConfig": {
                "IpcMode": "private", "ShmSize": 67_108_864, "CgroupnsMode": "host", "Runtime": "runc",
                "PidMode": "", "UsernsMode": "host", "MemorySwappiness": -1, "PidsLimit": -1, "OomKillDisable": false, "Init": false,
                "RestartPolicy": {"Name": ""}, "Isolation": "default", "LogConfig": {"Type": "json-file"},
                "NetworkMode": "bridge"
            },
            "NetworkingConfig": {"EndpointsConfig": {"bridge": {
                "NetworkID": "ab", "EndpointID": "cd", "IPAddress": "10.4.0.2", "MacAddress": "02:42:0a:04:00:02",
                "DNSNames": ["web"], "IPAMConfig": {}
            }}}
        })),
        None
    );
}

#[test]
fn wishes_are_named_with_what_tells_more() {
    for (body, expected) in [
        (json!({"hostconfig": {"cgroup": "container:x"}}), "HostConfig.Cgroup"),
        (json!({"HostConfig": {"UsernsMode": "private"}}), "HostConfig.UsernsMode \"private\""),
        (
            json!({"NetworkingConfig": {"EndpointsConfig": {"mine": {}}}}),
            "NetworkingConfig.EndpointsConfig.mine",
        ),
        (
            json!({"NetworkingConfig": {"EndpointsConfig": {"bridge": {"DriverOpts": {"a": "b"}}}}}),
            "NetworkingConfig.EndpointsConfig.bridge.DriverOpts",
        ),
        (
            json!({"HostConfig": {"NetworkMode": "mine"}, "NetworkingConfig": {"EndpointsConfig": {"mine": {}, "z": {"MacAddress": "02:42:0a:04:00:02"}}}}),
            "NetworkingConfig.EndpointsConfig.z.MacAddress",
        ),
        (
            json!({"HostConfig": {"NetworkMode": "host"}, "NetworkingConfig": {"EndpointsConfig": {"bridge": {}}}}),
            "NetworkingConfig.EndpointsConfig.bridge",
        ),
    ] {
        assert_eq!(refused(&body).as_deref(), Some(expected), "{body}");
    }
}
