//! What of a host configuration becomes rights, namespaces, devices and limits: looked at from inside the container.

use std::collections::{BTreeMap, BTreeSet};

use e2e::api::BUSYBOX;
use e2e::host::{Engine, Plan};
use e2e::runner::OrSkip as _;
use e2e::{Api, Container, Context as _, Host, Result, Rig, Test, bail, ensure, peers, tests};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    capabilities_are_added_and_dropped,
    privileged_is_nearly_everything,
    security_options_hold,
    a_seccomp_profile_of_ones_own,
    paths_are_masked_and_read_only,
    groups_ulimits_and_score,
    namespaces_of_the_host,
    processes_of_another_container,
    shared_memory_of_another_container,
    shared_memory_has_its_size,
    devices_of_the_host,
    gpus_and_cdi_devices,
    kernel_parameters,
    limits_of_the_control_group,
    an_init_is_process_one,
    a_runtime_by_name,
    what_makes_no_sense_is_refused,
    limits_change_while_it_runs_and_while_not,
    changes_that_contradict_change_nothing,
    older_versions_do_not_change_newer_limits,
    // It starts a dockerd beside the daemon.
    the_default_filter_is_dockerds.ours_only().slow(),
];

/// Starts a container of a script with this host configuration, waits for its end and gives its output.
fn output(api: &Api, script: &str, host: Value) -> Result<String> {
    let container = made(api, script, host)?;
    container.start()?;
    let code = container.wait()?;
    let text = container.logs("")?.text();
    ensure!(code == 0, "exit code {code}: {text}");
    Ok(text)
}

fn made(api: &Api, script: &str, mut host: Value) -> Result<Container> {
    if host.get("NetworkMode").is_none() {
        host["NetworkMode"] = json!("none");
    }
    api.create(json!({"Cmd": ["sh", "-c", script], "HostConfig": host}))
}

/// A container that runs until it is removed.
fn sleeper(api: &Api, host: Value) -> Result<Container> {
    let container = made(api, "exec sleep 1000", host)?;
    container.start()?;
    Ok(container)
}

/// The value of a line `Key:  value`.
fn line<'a>(text: &'a str, key: &str) -> Result<&'a str> {
    let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    found.map(str::trim).with_context(|| format!("no {key} in {text}"))
}

const STATUS: &str = "cat /proc/self/status";
const SYS_ADMIN: u64 = 1 << 21;
const NET_RAW: u64 = 1 << 13;
const CHOWN: u64 = 1;

fn bounding(api: &Api, host: Value) -> Result<u64> {
    let status = output(api, STATUS, host)?;
    let sets = ["CapBnd", "CapPrm", "CapEff"].map(|set| line(&status, set).map(str::to_owned));
    let [bounding, permitted, effective] = sets;
    let bounding = bounding?;
    ensure!(permitted? == bounding && effective? == bounding, "{status}");
    ensure!(line(&status, "CapInh")? == "0000000000000000", "{status}");
    u64::from_str_radix(&bounding, 16).context("not hexadecimal")
}

fn capabilities_are_added_and_dropped(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    ensure!(bounding(&api, json!({}))? == 0xa804_25fb, "Docker's fourteen");
    let one = bounding(&api, json!({"CapDrop": ["all"], "CapAdd": ["cap_net_raw"]}))?;
    ensure!(one == NET_RAW, "{one:x}");
    let all = bounding(&api, json!({"CapAdd": ["ALL"], "CapDrop": ["CHOWN"]}))?;
    ensure!(all & SYS_ADMIN != 0 && all & CHOWN == 0, "{all:x}");
    for field in ["CapAdd", "CapDrop"] {
        let body = json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": {field: ["FLY"]}});
        let message = api.post_json("/containers/create", &body)?.expect_error(400)?;
        let expected = format!("invalid {field}: unknown capability: \"CAP_FLY\"");
        ensure!(message == expected, "{message}");
    }
    Ok(())
}

fn privileged_is_nearly_everything(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let script = "cat /proc/self/status; grep ' /sys ' /proc/mounts; ls /proc/kcore /dev; test -w /proc/sys/kernel/hostname && echo writable";
    let container = made(&api, script, json!({"Privileged": true}))?;
    let seen = container.inspect()?;
    ensure!(seen["HostConfig"]["Privileged"] == true, "{}", seen["HostConfig"]["Privileged"]);
    ensure!(seen["HostConfig"]["MaskedPaths"].is_null(), "{}", seen["HostConfig"]["MaskedPaths"]);
    let options = &seen["HostConfig"]["SecurityOpt"];
    ensure!(*options == json!(["label=disable"]), "{options}");
    container.start()?;
    ensure!(container.wait()? == 0, "{}", container.logs("")?.text());
    let text = container.logs("")?.text();
    ensure!(line(&text, "Seccomp")? == "0", "{text}");
    let sys = text.lines().find(|line| line.contains(" /sys sysfs ")).context("no /sys")?;
    ensure!(sys.contains(" rw,"), "{sys}");
    ensure!(text.lines().any(|line| line == "writable"), "{text}");
    let bounding = u64::from_str_radix(line(&text, "CapBnd")?, 16)?;
    ensure!(bounding & SYS_ADMIN != 0, "{bounding:x}");
    Ok(())
}

fn security_options_hold(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let status = |options: Value| output(&api, STATUS, json!({"SecurityOpt": options}));
    let default = status(json!(null))?;
    ensure!(line(&default, "Seccomp")? == "2" && line(&default, "NoNewPrivs")? == "0", "{default}");
    let options = ["no-new-privileges", "no-new-privileges:true", "no-new-privileges=1"];
    for option in options {
        ensure!(line(&status(json!([option]))?, "NoNewPrivs")? == "1", "{option}");
    }
    let free = status(json!(["seccomp=unconfined", "label=disable", "apparmor=unconfined"]))?;
    ensure!(line(&free, "Seccomp")? == "0", "{free}");
    let built_in = status(json!(["seccomp=builtin"]))?;
    ensure!(line(&built_in, "Seccomp")? == "2", "{built_in}");
    let cgroups = "grep -c ' /sys/fs/cgroup.* cgroup2* rw' /proc/mounts || true";
    let writable = output(&api, cgroups, json!({"SecurityOpt": ["writable-cgroups"]}))?;
    ensure!(writable.trim() != "0", "{writable}");
    ensure!(output(&api, cgroups, json!({}))?.trim() == "0");
    for (option, expected) in [
        ("nonsense", "invalid --security-opt 1: \"nonsense\""),
        ("a=b", "invalid --security-opt 2: \"a=b\""),
        ("no-new-privileges=maybe", "invalid --security-opt 2: \"no-new-privileges=maybe\""),
    ] {
        // dockerd takes these for a mistake of its own (500).
        ensure_refused(&api, &json!({"SecurityOpt": [option]}), expected)?;
    }
    Ok(())
}

fn a_seccomp_profile_of_ones_own(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
            {"names": ["chdir"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_TIME"]}}
        ]
    });
    let host = json!({"SecurityOpt": [format!("seccomp={profile}")]});
    let text = output(&api, "cd /tmp && echo there; mkdir /x 2>&1 || echo refused", host)?;
    ensure!(text.contains("there") && text.contains("refused"), "{text}");
    ensure!(text.contains("Operation not permitted"), "{text}");
    Ok(())
}

fn paths_are_masked_and_read_only(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let script = "grep -c ' /proc/' /proc/mounts || true; touch /x 2>&1 || true";
    let default = output(&api, script, json!({}))?;
    ensure!(default.lines().next().is_some_and(|count| count != "0"), "{default}");
    let host = json!({"MaskedPaths": [], "ReadonlyPaths": [], "ReadonlyRootfs": true});
    let container = made(&api, script, host)?;
    let seen = &container.inspect()?["HostConfig"];
    ensure!(seen["MaskedPaths"] == json!([]) && seen["ReadonlyPaths"] == json!([]), "{seen}");
    container.start()?;
    container.wait()?;
    let text = container.logs("")?.text();
    ensure!(text.starts_with("0\n"), "{text}");
    ensure!(text.contains("Read-only file system"), "{text}");
    Ok(())
}

fn groups_ulimits_and_score(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let script = "id -G; ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj";
    let host = json!({
        "GroupAdd": ["wheel", "777"], "OomScoreAdj": 500,
        "Ulimits": [{"Name": "nofile", "Soft": 123, "Hard": 456}]
    });
    let text = output(&api, script, host)?;
    let lines: Vec<_> = text.lines().collect();
    let groups: BTreeSet<_> = lines[0].split(' ').collect();
    ensure!(groups.contains("777") && groups.contains("0"), "{text}");
    ensure!(lines[1..] == ["123", "456", "500"], "{text}");
    // dockerd tells at start.
    let refused = made(&api, "true", json!({"GroupAdd": ["nobody-has-this-group"]}));
    let message = match refused {
        Ok(container) => container.post("/start")?.text(),
        Err(error) => format!("{error:#}"),
    };
    ensure!(message.contains("unable to find group nobody-has-this-group"), "{message}");
    Ok(())
}

fn namespaces_of_the_host(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let links =
        "for n in pid ipc uts; do readlink /proc/self/ns/$n; done; grep ' /dev/shm ' /proc/mounts";
    let own = output(&api, links, json!({}))?;
    let host = json!({"PidMode": "host", "IpcMode": "host", "UTSMode": "host"});
    let container = made(&api, links, host)?;
    let seen = container.inspect()?["HostConfig"].clone();
    ensure!(seen["PidMode"] == "host" && seen["IpcMode"] == "host", "{seen}");
    ensure!(seen["UTSMode"] == "host", "{seen}");
    container.start()?;
    ensure!(container.wait()? == 0, "{}", container.logs("")?.text());
    let hosts = container.logs("")?.text();
    for (one, other) in own.lines().zip(hosts.lines()).take(3) {
        ensure!(one != other, "{one} is the container's own, and the host's");
    }
    for (mode, value) in
        [("PidMode", "x"), ("IpcMode", "x"), ("UTSMode", "x"), ("CgroupnsMode", "x")]
    {
        let body = json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": {mode: value}});
        let message = api.post_json("/containers/create", &body)?.expect_error(400)?;
        ensure!(message.starts_with("invalid ") && message.ends_with(" mode: x"), "{message}");
    }
    let hostname = json!({"Image": BUSYBOX, "Hostname": "box", "HostConfig": {"UTSMode": "host"}});
    let message = api.post_json("/containers/create", &hostname)?.expect_error(400)?;
    ensure!(message == "conflicting options: hostname and the UTS mode", "{message}");
    Ok(())
}

fn processes_of_another_container(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let donor = sleeper(&api, json!({}))?;
    let host = json!({"PidMode": format!("container:{}", donor.name)});
    let joiner = made(&api, "ps; tail -f /dev/null", host)?;
    let seen = joiner.inspect()?["HostConfig"]["PidMode"].clone();
    ensure!(seen == format!("container:{}", donor.id), "{seen}");
    joiner.start()?;
    joiner.until_logged("sleep 1000")?;
    joiner.post("/kill")?.expect(204)?;
    joiner.wait()?;
    // Another run of the other container is another process.
    donor.post("/restart?t=0").and_then(|answer| answer.expect(204)).or_else(|_| {
        donor.post("/kill")?.expect(204)?;
        donor.wait()?;
        donor.post("/start")?.expect(204)
    })?;
    joiner.start()?;
    joiner.post("/kill")?.expect(204)?;
    joiner.wait()?;
    donor.post("/kill")?.expect(204)?;
    donor.wait()?;
    let response = joiner.post("/start")?;
    let message = response.text();
    ensure!(response.status() >= 400, "{message}");
    ensure!(message.contains("failed to join PID namespace"), "{message}");
    ensure!(message.contains("is not running"), "{message}");
    let body =
        json!({"Image": BUSYBOX, "HostConfig": {"PidMode": "container:nobody-is-called-so"}});
    let response = api.post_json("/containers/create", &body)?;
    ensure!(response.status() >= 400, "{}", response.text());
    ensure!(
        response.text().contains("No such container: nobody-is-called-so"),
        "{}",
        response.text()
    );
    Ok(())
}

fn shared_memory_of_another_container(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let donor =
        made(&api, "echo hello > /dev/shm/word; exec sleep 1000", json!({"IpcMode": "shareable"}))?;
    let joiner = made(
        &api,
        "cat /dev/shm/word; df -k /dev/shm | tail -1",
        json!({"IpcMode": format!("container:{}", donor.id)}),
    )?;
    let refused = joiner.post("/start")?;
    ensure!(refused.text().contains("is not running"), "{}", refused.text());
    donor.start()?;
    e2e::sandbox::until(
        std::time::Duration::from_secs(30),
        "the word in the shared memory",
        || {
            joiner.start().is_ok()
                && joiner.wait().is_ok()
                && joiner.logs("").is_ok_and(|output| output.text().contains("hello"))
        },
    )?;
    let own = sleeper(&api, json!({"IpcMode": "private"}))?;
    let stranger = made(&api, "true", json!({"IpcMode": format!("container:{}", own.id)}))?;
    let refused = stranger.post("/start")?;
    ensure!(refused.text().contains("non-shareable IPC"), "{}", refused.text());
    let none = output(&api, "ls /dev/shm 2>&1 || true", json!({"IpcMode": "none"}))?;
    ensure!(none.contains("No such file"), "{none}");
    // Nothing is left mounted, so removal works.
    donor.remove()
}

fn shared_memory_has_its_size(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let script = "df -k /dev/shm | tail -1";
    let size = |host: Value| -> Result<String> {
        let text = output(&api, script, host)?;
        Ok(text.split_whitespace().nth(1).context("no size")?.to_owned())
    };
    ensure!(size(json!({}))? == "65536");
    ensure!(size(json!({"ShmSize": 1_048_576}))? == "1024");
    ensure!(size(json!({"ShmSize": 1_048_576, "IpcMode": "shareable"}))? == "1024");
    let body = json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": {"ShmSize": -1}});
    let message = api.post_json("/containers/create", &body)?.expect_error(400)?;
    ensure!(message == "SHM size can not be less than 0", "{message}");
    Ok(())
}

fn devices_of_the_host(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let host = json!({
        "Devices": [{"PathOnHost": "/dev/zero", "PathInContainer": "/dev/nought", "CgroupPermissions": "rwm"}],
        "DeviceCgroupRules": ["c 10:200 rwm"]
    });
    let text = output(&api, "ls -l /dev/nought; head -c 3 /dev/nought | wc -c", host)?;
    ensure!(text.contains("1,   5") && text.trim_end().ends_with('3'), "{text}");
    let missing = json!({"Devices": [{"PathOnHost": "/dev/none-of-these", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}]});
    ensure_refused(
        &api,
        &missing,
        "error gathering device information while adding custom device \"/dev/none-of-these\"",
    )?;
    ensure_refused(
        &api,
        &json!({"DeviceCgroupRules": ["nonsense"]}),
        "invalid device cgroup rule format: 'nonsense'",
    )
}

/// Refused at create, or at start: dockerd looks at some fields then only.
fn ensure_refused(api: &Api, host: &Value, words: &str) -> Result<()> {
    let body = json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": host});
    api.have(BUSYBOX)?;
    let created = api.post_json("/containers/create", &body)?;
    let refused = if created.status() == 201 {
        let id = created.json()?["Id"].as_str().context("no Id")?.to_owned();
        let started = api.post(&format!("/containers/{id}/start"))?;
        api.delete(&format!("/containers/{id}?force=1"))?.expect(204)?;
        started
    } else {
        created
    };
    ensure!(refused.status() >= 400, "taken: {body}");
    ensure!(refused.text().replace("\\\"", "\"").contains(words), "{}", refused.text());
    Ok(())
}

fn gpus_and_cdi_devices(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    // Without a driver's name dockerd 29 says which vendors it looked for.
    let gpu = json!({"DeviceRequests": [{"Driver": "x", "Count": -1, "Capabilities": [["gpu"]]}]});
    ensure_refused(&api, &gpu, "could not select device driver \"x\" with capabilities: [[gpu]]")?;
    let device =
        json!({"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["vendor.com/class=none"]}]});
    ensure_refused(&api, &device, "unresolvable CDI devices vendor.com/class=none")
}

fn kernel_parameters(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let script =
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced";
    let host = json!({"Sysctls": {"net.ipv4.ip_unprivileged_port_start": "99", "kernel.shm_rmid_forced": "1"}});
    let text = output(&api, script, host)?;
    ensure!(text == "99\n1\n", "{text}");
    let host = json!({"Sysctls": {"kernel.panic": "1"}});
    ensure_refused(&api, &host, "sysctl \"kernel.panic\" is not in a separate kernel namespace")?;
    let host = json!({"NetworkMode": "host", "Sysctls": {"net.ipv4.ip_forward": "1"}});
    ensure_refused(&api, &host, "not allowed in host network namespace")?;
    let eth0 = json!({"NetworkMode": "bridge", "Sysctls": {"net.ipv4.conf.eth0.forwarding": "1"}});
    ensure_refused(
        &api,
        &eth0,
        "interface specific sysctl setting \"net.ipv4.conf.eth0.forwarding\" must be supplied",
    )
}

/// Each limit by what the kernel says of it, on either kind of control groups.
const LIMITS: &str = "cd /sys/fs/cgroup; for f in memory.max memory/memory.limit_in_bytes pids.max pids/pids.max cpu.max \
    cpu/cpu.cfs_quota_us cpuset.cpus cpuset/cpuset.cpus; do test -e $f && echo $f $(cat $f); done; true";

fn limits(text: &str) -> BTreeMap<&str, String> {
    let name = |file: &str| match file {
        "memory.max" | "memory/memory.limit_in_bytes" => "memory",
        "pids.max" | "pids/pids.max" => "pids",
        "cpu.max" | "cpu/cpu.cfs_quota_us" => "quota",
        _ => "cpus",
    };
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(file, value)| (name(file), value.split(' ').next().unwrap_or_default().to_owned()))
        .collect()
}

fn limits_of_the_control_group(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let host =
        json!({"Memory": 67_108_864, "PidsLimit": 50, "NanoCpus": 500_000_000, "CpusetCpus": "0"});
    let container = made(&api, LIMITS, host)?;
    let seen = container.inspect()?["HostConfig"].clone();
    let swap = seen["MemorySwap"].as_i64();
    ensure!(swap == Some(134_217_728) || swap == Some(-1), "{seen}");
    ensure!(seen["NanoCpus"] == 500_000_000 && seen["CpuQuota"] == 0, "{seen}");
    container.start()?;
    ensure!(container.wait()? == 0, "{}", container.logs("")?.text());
    let text = container.logs("")?.text();
    let found = limits(&text);
    for (name, value) in [("memory", "67108864"), ("pids", "50"), ("quota", "50000"), ("cpus", "0")]
    {
        ensure!(found.get(name).is_none_or(|found| found == value), "{name}: {text}");
    }
    ensure!(found.contains_key("memory") && found.contains_key("pids"), "{text}");
    Ok(())
}

fn an_init_is_process_one(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = made(
        &api,
        "cat /proc/1/cmdline | tr '\\0' ' '; echo; cat /proc/1/comm",
        json!({"Init": true}),
    )?;
    let seen = container.inspect()?;
    ensure!(seen["Path"] == "sh" && seen["HostConfig"]["Init"] == true, "{}", seen["Path"]);
    let started = container.post("/start")?;
    if started.status() != 204 && started.text().contains("docker-init") {
        return Err(e2e::runner::skip("the target has no init"));
    }
    started.expect(204)?;
    ensure!(container.wait()? == 0, "{}", container.logs("")?.text());
    let text = container.logs("")?.text();
    ensure!(text.starts_with("/sbin/docker-init -- sh -c "), "{text}");
    Ok(())
}

fn a_runtime_by_name(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for runtime in ["runc", "io.containerd.runc.v2"] {
        let container = made(&api, "true", json!({"Runtime": runtime}))?;
        ensure!(container.inspect()?["HostConfig"]["Runtime"] == runtime);
        container.start()?;
        ensure!(container.wait()? == 0);
    }
    for runtime in ["nothing", "/bin/sh"] {
        let body = json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": {"Runtime": runtime}});
        let message = api.post_json("/containers/create", &body)?.expect_error(400)?;
        ensure!(message == format!("unknown or invalid runtime name: {runtime}"), "{message}");
    }
    Ok(())
}

fn what_makes_no_sense_is_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    for (host, expected) in [
        (json!({"Memory": 1000}), "Minimum memory limit allowed is 6MB"),
        (
            json!({"Memory": 8_388_608, "MemorySwap": 7_340_032}),
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (
            json!({"MemorySwap": 8_388_608}),
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (
            json!({"NanoCpus": 1, "CpuQuota": 1000}),
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        ),
        (
            json!({"CpuPeriod": 1}),
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        (json!({"CpuShares": -1}), "invalid CPU shares (-1): value must be a positive integer"),
        (
            json!({"OomScoreAdj": 2000}),
            "Invalid value 2000, range for oom score adj is [-1000, 1000]",
        ),
        (
            json!({"IOMaximumIOps": 5}),
            "invalid option: QoS maximum IOPs configuration is not supported on linux",
        ),
        (json!({"CpusetCpus": "x"}), "Invalid value x for cpuset cpus: invalid format: x"),
    ] {
        let body = json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": host});
        let message = api.post_json("/containers/create", &body)?.expect_error(400)?;
        ensure!(message == expected, "{message}");
    }
    let cpus =
        json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": {"NanoCpus": 999_000_000_000_i64}});
    let message = api.post_json("/containers/create", &cpus)?.expect_error(400)?;
    ensure!(message.starts_with("range of CPUs is from 0.01 to "), "{message}");
    Ok(())
}

fn updated(container: &Container, body: &Value) -> Result<Value> {
    container.api().post_json(&container.path("/update"), body)?.expect(200)?.json()
}

fn limits_change_while_it_runs_and_while_not(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let script = format!("{LIMITS}; echo --; while test ! -e /go; do sleep 0.1; done; {LIMITS}");
    let container = made(&api, "exec sleep 1000", json!({"Memory": 67_108_864}))?;
    let answer = updated(&container, &json!({"PidsLimit": 40}))?;
    ensure!(answer["Warnings"].is_null() || answer["Warnings"].is_array(), "{answer}");
    ensure!(container.inspect()?["HostConfig"]["PidsLimit"] == 40);
    drop(container);

    let container = made(&api, &script, json!({"Memory": 67_108_864}))?;
    updated(&container, &json!({"PidsLimit": 40}))?;
    container.start()?;
    container.until_logged("--")?;
    updated(&container, &json!({"Memory": 33_554_432, "MemorySwap": 67_108_864, "PidsLimit": -1}))?;
    let seen = container.inspect()?["HostConfig"].clone();
    ensure!(seen["Memory"] == 33_554_432 && seen["PidsLimit"] == 0, "{seen}");
    // The file that it waits for comes with the archive endpoint, where that is built; otherwise by restarting.
    container.post("/kill")?.expect(204)?;
    container.wait()?;
    let before = container.logs("")?.text();
    let before = limits(&before).clone();
    ensure!(before.get("pids").is_some_and(|pids| pids == "40"), "{before:?}");
    container.start()?;
    e2e::sandbox::until(std::time::Duration::from_secs(30), "the second run's output", || {
        container.logs("").is_ok_and(|output| output.text().matches("--").count() == 2)
    })?;
    let text = container.logs("")?.text();
    let second = text.rsplit("--\n").nth(1).context("no second run")?;
    let found = limits(second);
    ensure!(found.get("memory").is_some_and(|memory| memory == "33554432"), "{second}");
    ensure!(found.get("pids").is_some_and(|pids| pids == "max"), "{second}");
    let events = api.get("/events?since=0&until=1&filters={}")?;
    ensure!(events.status() == 200, "{}", events.text());
    Ok(())
}

fn changes_that_contradict_change_nothing(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = sleeper(&api, json!({"NanoCpus": 500_000_000, "AutoRemove": false}))?;
    let refused = |body: Value, status: u16| -> Result<String> {
        api.post_json(&container.path("/update"), &body)?.expect_error(status)
    };
    let message = refused(json!({"CpuQuota": 5000}), 409)?;
    let expected =
        "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set";
    ensure!(
        message == format!("Cannot update container {}: {expected}", container.id),
        "{message}"
    );
    let message = refused(json!({"Memory": 67_108_864}), 409)?;
    ensure!(message.ends_with("update the memoryswap at the same time"), "{message}");
    let message = refused(json!({"Memory": 1}), 400)?;
    ensure!(message == "Minimum memory limit allowed is 6MB", "{message}");
    let message = refused(json!({"RestartPolicy": {"Name": "sometimes"}}), 400)?;
    ensure!(message.starts_with("invalid restart policy: unknown policy 'sometimes'"), "{message}");
    // The runtime refuses what the kernel does: it cannot shrink below what is used.
    let seen = container.inspect()?["HostConfig"].clone();
    ensure!(seen["CpuQuota"] == 0 && seen["Memory"] == 0, "{seen}");
    let gone = api.post_json("/containers/nobody-is-called-so/update", &json!({}))?;
    ensure!(gone.expect_error(404)? == "No such container: nobody-is-called-so");
    Ok(())
}

fn older_versions_do_not_change_newer_limits(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = made(&api, "true", json!({"PidsLimit": 30}))?;
    let rate = json!({"BlkioDeviceReadBps": [{"Path": "/dev/zero", "Rate": 1_048_576}]});
    let old = api.at("1.54").post_json(&container.path("/update"), &rate)?;
    old.expect(200)?;
    let seen = container.inspect()?["HostConfig"]["BlkioDeviceReadBps"].clone();
    ensure!(seen.is_null() || seen == json!([]), "{seen}");
    Ok(())
}

/// `linux.seccomp` of a running container, as its runtime was given it.
fn filter_of(host: &Host, id: &str) -> Result<Value> {
    let script = format!("cat $(find /run \"$PWD\" -path '*/{id}/config.json' | head -n 1)");
    let sandbox = host.sandbox()?;
    let config = sandbox.run(sandbox.command("sh").args(["-c", &script]))?;
    let spec: Value = serde_json::from_str(&config).context("no bundle")?;
    Ok(spec["linux"]["seccomp"].clone())
}

/// What is allowed, whatever the order and however it is grouped: each call with its conditions and its outcome.
fn normalized(filter: &Value) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for rule in filter["syscalls"].as_array().context("no rules")? {
        let arguments = rule["args"].as_array().cloned().unwrap_or_default();
        let arguments: Vec<_> = arguments
            .iter()
            .map(|one| {
                format!(
                    "{} {} {} {}",
                    one["index"],
                    one["op"],
                    one["value"],
                    one["valueTwo"].as_u64().unwrap_or(0)
                )
            })
            .collect();
        for name in rule["names"].as_array().into_iter().flatten() {
            all.insert(format!("{name} {} {} {arguments:?}", rule["action"], rule["errnoRet"]));
        }
    }
    Ok(all)
}

fn the_default_filter_is_dockerds(rig: &Rig) -> Result<()> {
    peers::program("dockerd", "dockerd").or_skip()?;
    let mut plan = Plan::from_environment()?;
    plan.engine = Engine::Dockerd;
    let reference = Host::start(plan)?;
    let ours = rig.host()?;
    for (name, host) in [
        ("default", json!({})),
        ("more", json!({"CapAdd": ["SYS_ADMIN", "SYS_PTRACE", "NET_ADMIN", "SYSLOG", "BPF"]})),
        ("none", json!({"CapDrop": ["ALL"]})),
        ("all", json!({"CapAdd": ["ALL"]})),
    ] {
        let there = sleeper(&reference.api(), host.clone())?;
        let here = sleeper(&ours.api(), host)?;
        let (expected, found) = (filter_of(&reference, &there.id)?, filter_of(ours, &here.id)?);
        for key in ["defaultAction", "defaultErrnoRet", "architectures", "flags"] {
            ensure!(
                expected[key] == found[key],
                "{name}, {key}: {} and {}",
                expected[key],
                found[key]
            );
        }
        let (expected, found) = (normalized(&expected)?, normalized(&found)?);
        let missing: Vec<_> = expected.difference(&found).collect();
        let surplus: Vec<_> = found.difference(&expected).collect();
        if !missing.is_empty() || !surplus.is_empty() {
            bail!("{name}: missing {missing:#?}, surplus {surplus:#?}");
        }
    }
    Ok(())
}
