//! Differences between API versions that no other group looks at: each on both sides.

use e2e::api::{BUSYBOX, filters, script_body};
use e2e::{Api, Context as _, Result, Rig, Test, ensure, tests, unique};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    the_singular_image_filter_ends_with_1_25,
    a_pull_knows_platforms_from_1_32,
    create_knows_platforms_from_1_41,
    ipc_is_private_from_1_40,
    the_cgroup_namespace_before_1_41,
    a_terminals_first_size_from_1_42,
    annotations_from_1_43,
    aliases_hold_id_and_hostname_before_1_45,
    lists_show_annotations_from_1_46,
    on_build_is_gone_from_1_52,
    runtimes_have_no_status_before_1_44,
];

/// Creates a container in one version and gives its description in the newest.
fn created(
    api: &Api,
    version: &str,
    query: &str,
    mut body: Value,
) -> Result<(e2e::http::Response, Value)> {
    api.have(BUSYBOX)?;
    body["Image"] = json!(BUSYBOX);
    let name = unique("version");
    let response =
        api.at(version).post_json(&format!("/containers/create?name={name}{query}"), &body)?;
    let seen = api.get(&format!("/containers/{name}/json"))?.json()?;
    api.delete(&format!("/containers/{name}?force=1"))?;
    Ok((response, seen))
}

fn the_singular_image_filter_ends_with_1_25(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    let count = |version: &str| -> Result<usize> {
        let list = api.at(version).get_json("/images/json?filter=nobody-has-this")?;
        Ok(list.as_array().context("not a list")?.len())
    };
    ensure!(count("1.24")? == 0, "it chooses at 1.24");
    ensure!(count("1.25")? > 0, "it is ignored at 1.25");
    Ok(())
}

fn a_pull_knows_platforms_from_1_32(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let status = |version: &str| -> Result<u16> {
        let path = "/images/create?fromImage=busybox&tag=latest&platform=nonsense%2F%2F%2F%2F";
        Ok(api.at(version).post(path)?.status())
    };
    ensure!(status("1.31")? == 200, "it is ignored at 1.31");
    ensure!(status("1.32")? == 400, "it is read at 1.32");
    Ok(())
}

fn create_knows_platforms_from_1_41(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let status = |version: &str| -> Result<u16> {
        Ok(created(&api, version, "&platform=linux%2Fs390x", json!({"Cmd": ["true"]}))?.0.status())
    };
    ensure!(status("1.40")? == 201, "it is ignored at 1.40");
    ensure!(status("1.41")? == 404, "it is read at 1.41");
    Ok(())
}

fn ipc_is_private_from_1_40(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for (version, mode) in [("1.39", "shareable"), ("1.40", "private")] {
        let (_, seen) = created(&api, version, "", json!({"Cmd": ["true"]}))?;
        ensure!(
            seen["HostConfig"]["IpcMode"] == mode,
            "{version}: {}",
            seen["HostConfig"]["IpcMode"]
        );
    }
    Ok(())
}

fn the_cgroup_namespace_before_1_41(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let version_1 = api.get_json("/info")?["CgroupVersion"] == "1";
    let (_, seen) = created(&api, "1.40", "", json!({"Cmd": ["true"]}))?;
    let mode = &seen["HostConfig"]["CgroupnsMode"];
    // Cgroups of version 2 cannot be shared with the host as those of version 1 were.
    ensure!(*mode == if version_1 { "host" } else { "private" }, "{mode}");
    Ok(())
}

fn a_terminals_first_size_from_1_42(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let size = |version: &str| -> Result<Value> {
        let mut body = script_body("true");
        body["Tty"] = json!(true);
        body["HostConfig"]["ConsoleSize"] = json!([40, 80]);
        Ok(created(&api, version, "", body)?.1["HostConfig"]["ConsoleSize"].clone())
    };
    ensure!(size("1.41")? == json!([0, 0]), "it is ignored at 1.41: {}", size("1.41")?);
    ensure!(size("1.42")? == json!([40, 80]), "it is read at 1.42: {}", size("1.42")?);
    Ok(())
}

fn annotated() -> Value {
    let mut body = script_body("true");
    body["HostConfig"]["Annotations"] = json!({"com.example.a": "b"});
    body
}

fn annotations_from_1_43(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let shown = |version: &str| -> Result<Value> {
        Ok(created(&api, version, "", annotated())?.1["HostConfig"]["Annotations"].clone())
    };
    ensure!(shown("1.42")?.is_null(), "they are ignored at 1.42: {}", shown("1.42")?);
    ensure!(
        shown("1.43")? == json!({"com.example.a": "b"}),
        "they are read at 1.43: {}",
        shown("1.43")?
    );
    Ok(())
}

fn aliases_hold_id_and_hostname_before_1_45(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(json!({"Cmd": ["sleep", "1000"], "Hostname": "web"}))?;
    container.start()?;
    let aliases = |version: &str| -> Result<Value> {
        let seen = api.at(version).get_json(&container.path("/json"))?;
        Ok(seen["NetworkSettings"]["Networks"]["bridge"]["Aliases"].clone())
    };
    // The default bridge has no names; what is added is nothing but the two.
    let old = aliases("1.44")?;
    let has = |name: &str| old.as_array().is_some_and(|all| all.contains(&json!(name)));
    ensure!(old.is_null() || (has(&container.id[..12]) && has("web")), "{old}");
    ensure!(aliases("1.45")?.as_array().is_none_or(Vec::is_empty), "{}", aliases("1.45")?);
    Ok(())
}

fn lists_show_annotations_from_1_46(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(annotated())?;
    let shown = |version: &str| -> Result<Value> {
        let path = format!("/containers/json?all=1&{}", filters(&[("id", &container.id)]));
        Ok(api.at(version).get_json(&path)?[0]["HostConfig"].clone())
    };
    ensure!(shown("1.45")?.get("Annotations").is_none(), "{}", shown("1.45")?);
    ensure!(shown("1.46")?["Annotations"] == json!({"com.example.a": "b"}), "{}", shown("1.46")?);
    Ok(())
}

fn on_build_is_gone_from_1_52(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(script_body("true"))?;
    let config = |version: &str| -> Result<Value> {
        Ok(api.at(version).get_json(&container.path("/json"))?["Config"].clone())
    };
    // Below it is null, or as absent as with the newest dockerd.
    ensure!(config("1.51")?.get("OnBuild").is_none_or(Value::is_null), "{}", config("1.51")?);
    ensure!(config("1.52")?.get("OnBuild").is_none(), "{}", config("1.52")?);
    Ok(())
}

fn runtimes_have_no_status_before_1_44(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let runtimes = api.at("1.43").get_json("/info")?["Runtimes"].clone();
    let all = runtimes.as_object().context("no runtimes")?;
    ensure!(all.values().all(|runtime| runtime.get("status").is_none()), "{runtimes}");
    Ok(())
}
