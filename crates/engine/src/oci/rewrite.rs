//! Changes to a spec that is already in containerd's record.
//!
//! On JSON, not on types: a spec may come from another program and a newer version of the specification, and what is
//! not known here must stay in it.

use serde_json::{Map, Value, json};

use crate::containers::spec::confinement::Resources;

/// The path of a namespace, if the spec joins one.
pub(crate) fn namespace_path<'a>(spec: &'a Value, kind: &str) -> Option<&'a str> {
    let namespaces = spec["linux"]["namespaces"].as_array()?;
    let found = namespaces.iter().find(|namespace| namespace["type"] == kind)?;
    found["path"].as_str().filter(|path| !path.is_empty())
}

/// Join another namespace of this kind.
pub(crate) fn join_namespace(spec: &mut Value, kind: &str, path: &str) {
    let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut() else { return };
    for namespace in namespaces.iter_mut().filter(|namespace| namespace["type"] == kind) {
        namespace["path"] = json!(path);
    }
}

/// The source of the mount at `destination`.
pub(crate) fn mount_source<'a>(spec: &'a Value, destination: &str) -> Option<&'a str> {
    let mounts = spec["mounts"].as_array()?;
    mounts.iter().find(|mount| mount["destination"] == destination)?["source"].as_str()
}

/// Mount something else at `destination`.
pub(crate) fn set_mount_source(spec: &mut Value, destination: &str, source: &str) {
    let Some(mounts) = spec["mounts"].as_array_mut() else { return };
    for mount in mounts.iter_mut().filter(|mount| mount["destination"] == destination) {
        mount["source"] = json!(source);
    }
}

/// Take `limits` (an OCI `linux.resources`) over; what it does not mention stays.
pub(crate) fn set_limits(spec: &mut Value, limits: Value) {
    let Some(root) = spec.as_object_mut() else { return };
    let linux = root.entry("linux").or_insert_with(|| Value::Object(Map::new()));
    let Some(linux) = linux.as_object_mut() else { return };
    let resources = linux.entry("resources").or_insert_with(|| Value::Object(Map::new()));
    merge(resources, limits);
}

/// Objects key by key, anything else as a whole.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// What a spec limits, in Docker's terms, as far as they can be told.
pub(crate) fn resources(spec: &Value) -> Resources {
    let limits = &spec["linux"]["resources"];
    let (memory, cpu) = (&limits["memory"], &limits["cpu"]);
    let number = |value: &Value| value.as_i64().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Resources {
        memory: number(&memory["limit"]),
        memory_reservation: number(&memory["reservation"]),
        memory_swap: number(&memory["swap"]),
        memory_swappiness: memory["swappiness"].as_i64(),
        oom_kill_disable: memory["disableOOMKiller"].as_bool(),
        cpu_shares: number(&cpu["shares"]),
        cpu_period: number(&cpu["period"]),
        cpu_quota: number(&cpu["quota"]),
        cpu_realtime_period: number(&cpu["realtimePeriod"]),
        cpu_realtime_runtime: number(&cpu["realtimeRuntime"]),
        cpuset_cpus: text(&cpu["cpus"]),
        cpuset_mems: text(&cpu["mems"]),
        pids_limit: limits["pids"]["limit"].as_i64().filter(|limit| *limit > 0),
        blkio_weight: limits["blockIO"]["weight"]
            .as_u64()
            .and_then(|weight| u16::try_from(weight).ok())
            .unwrap_or_default(),
        ..Resources::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Value {
        json!({
            "futureField": 1,
            "mounts": [{"destination": "/dev/shm", "source": "shm", "type": "tmpfs"}],
            "linux": {
                "namespaces": [{"type": "pid", "path": "/proc/1/ns/pid"}, {"type": "ipc"}],
                "resources": {
                    "memory": {"limit": 64, "kernel": 5},
                    "cpu": {"shares": 7, "cpus": "0"},
                    "pids": {"limit": -1},
                    "devices": [{"allow": false}]
                }
            }
        })
    }

    #[test]
    fn limits_are_merged_and_all_else_stays() {
        let mut changed = spec();
        set_limits(
            &mut changed,
            json!({"memory": {"limit": 65}, "pids": {"limit": 9}, "blockIO": {"weight": 10}}),
        );
        let mut expected = spec();
        expected["linux"]["resources"]["memory"]["limit"] = json!(65);
        expected["linux"]["resources"]["pids"]["limit"] = json!(9);
        expected["linux"]["resources"]["blockIO"] = json!({"weight": 10});
        assert_eq!(changed, expected);
        let mut empty = json!({});
        set_limits(&mut empty, json!({"pids": {"limit": 9}}));
        assert_eq!(empty, json!({"linux": {"resources": {"pids": {"limit": 9}}}}));
    }

    #[test]
    fn what_is_limited_can_be_told() {
        let found = resources(&spec());
        assert_eq!((found.memory, found.cpu_shares, found.pids_limit), (64, 7, None));
        assert_eq!(found.cpuset_cpus, "0");
        assert_eq!(resources(&json!(null)), Resources::default());
    }

    #[test]
    fn namespaces_and_mounts_change_their_place() {
        let mut changed = spec();
        assert_eq!(namespace_path(&changed, "pid"), Some("/proc/1/ns/pid"));
        assert_eq!(namespace_path(&changed, "ipc"), None);
        join_namespace(&mut changed, "pid", "/proc/2/ns/pid");
        assert_eq!(namespace_path(&changed, "pid"), Some("/proc/2/ns/pid"));
        set_mount_source(&mut changed, "/dev/shm", "/x");
        assert_eq!(mount_source(&changed, "/dev/shm"), Some("/x"));
        assert_eq!(changed["futureField"], 1);
    }
}
