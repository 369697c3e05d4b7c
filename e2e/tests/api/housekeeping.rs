//! What images take up and how it is taken back: what lists and disk usage tell of sizes, prunes; and the search.

use e2e::api::{BUSYBOX, Image, encode, filters};
use e2e::cli::Docker;
use e2e::runner::OrSkip as _;
use e2e::{Api, Context as _, Host, Result, Rig, Test, ensure, tests, unique};
use serde_json::{Value, json};

use crate::store::{committed, gone, inspect};

pub(crate) const TESTS: &[Test] = tests![
    prunes,
    lists_tell_manifests_and_what_is_shared,
    disk_usage_tells_sizes,
    docker_system_df,
    searches_that_cannot_be,
];

/// An image with a label of its own, made of busybox.
/// An image of our own with a label.
fn labelled(api: &Api, label: &str, name: Option<&str>) -> Result<Image> {
    let change = encode(&format!("LABEL {label}=1"));
    committed(api, &format!("echo {label} > /made"), &format!("&changes={change}"), name)
}

fn prune(api: &Api, of: &[(&str, &str)]) -> Result<Value> {
    api.post(&format!("/images/prune?{}", filters(of)))?.expect(200)?.json()
}

/// On a host of its own: dockerd's prune takes the leases away that protect what others are just making.
fn prunes(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| {},
        |host| {
            prune_takes_what_nobody_uses(&host.api())?;
            prune_spares_what_containers_use(&host.api())?;
            docker_prunes(host)
        },
    )
}

fn prune_takes_what_nobody_uses(api: &Api) -> Result<()> {
    let label = unique("prune");
    let name = format!("{label}:1");
    let named = labelled(api, &label, Some(&name))?;
    let nameless = labelled(api, &label, None)?;
    let of: &[(&str, &str)] = &[("label", &label)];
    let pruned = prune(api, &[of, &[("label!", label.as_str())]].concat())?;
    ensure!(pruned == json!({"ImagesDeleted": null, "SpaceReclaimed": 0}), "{pruned}");
    let pruned = prune(api, &[of, &[("until", "1h")]].concat())?;
    ensure!(pruned["ImagesDeleted"].is_null(), "{pruned}");
    let pruned = prune(api, of)?;
    let expected = json!([{"Untagged": nameless.name}, {"Deleted": nameless.name}]);
    ensure!(pruned["ImagesDeleted"] == expected, "{pruned}");
    ensure!(pruned["SpaceReclaimed"].as_u64().is_some_and(|bytes| bytes > 100), "{pruned}");
    gone(api, &nameless.name)?;
    let id = inspect(api, &name)?["Id"].clone();
    let pruned = prune(api, &[of, &[("dangling", "false")]].concat())?;
    ensure!(pruned["ImagesDeleted"] == json!([{"Untagged": name}, {"Deleted": id}]), "{pruned}");
    gone(api, &named.name)?;
    for bad in [[("reference", "x")], [("until", "x")], [("dangling", "x")]] {
        api.post(&format!("/images/prune?{}", filters(&bad)))?.expect_error(400)?;
    }
    Ok(())
}

fn prune_spares_what_containers_use(api: &Api) -> Result<()> {
    let label = unique("spare");
    let (one, two) = (format!("{label}:1"), format!("{label}:2"));
    let _one = labelled(api, &label, Some(&one))?;
    api.post(&format!("/images/{one}/tag?repo={label}&tag=2"))?.expect(201)?;
    let _two = Image { api: api.clone(), name: two.clone() };
    let nameless = labelled(api, &label, None)?;
    let by_name = api.create(json!({"Image": one, "Cmd": ["true"]}))?;
    let by_id = api.create(json!({"Image": nameless.name, "Cmd": ["true"]}))?;
    let all: &[(&str, &str)] = &[("label", &label), ("dangling", "false")];
    let pruned = prune(api, all)?;
    ensure!(pruned["ImagesDeleted"] == json!([{"Untagged": two}]), "{pruned}");
    inspect(api, &one)?;
    inspect(api, &nameless.name)?;
    drop((by_name, by_id));
    let pruned = prune(api, all)?;
    ensure!(pruned["ImagesDeleted"].as_array().map(Vec::len) == Some(4), "{pruned}");
    Ok(())
}

fn docker_prunes(host: &Host) -> Result<()> {
    let docker = Docker::newest(host).or_skip()?;
    let api = host.api();
    let label = unique("cliprune");
    let name = format!("{label}:1");
    let filter = format!("label={label}");
    let image = labelled(&api, &label, Some(&name))?;
    let out = docker.run(&["image", "prune", "-f", "--filter", &filter])?.success()?;
    ensure!(out == "Total reclaimed space: 0B\n", "{out}");
    let out = docker.run(&["image", "prune", "-a", "-f", "--filter", &filter])?.success()?;
    ensure!(
        out.contains(&format!("untagged: {name}\n")) && out.contains("deleted: sha256:"),
        "{out}"
    );
    gone(&api, &image.name)?;
    let image = labelled(&api, &label, None)?;
    let ended = docker.run(&["system", "prune", "-f", "--volumes"])?;
    ensure!(ended.stdout.contains(&format!("deleted: {}\n", image.name)), "{ended:?}");
    gone(&api, &image.name)?;
    Ok(())
}

fn lists_tell_manifests_and_what_is_shared(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let label = unique("share");
    let name = format!("{label}:1");
    let _image = labelled(&api, &label, Some(&name))?;
    let of = filters(&[("label", &label)]);
    let plain = api.get_json(&format!("/images/json?{of}"))?;
    ensure!(plain[0]["SharedSize"] == -1 && plain[0].get("Manifests").is_none(), "{plain}");
    let full = api.get_json("/images/json?shared-size=1&manifests=1")?;
    let mut all = full.as_array().context("no list")?.iter();
    let image = all.find(|image| image["RepoTags"] == json!([name])).context("not listed")?;
    let (shared, size) = (image["SharedSize"].as_u64(), image["Size"].as_u64());
    ensure!(shared.is_some_and(|shared| shared > 100_000) && shared < size, "{image}");
    let manifest = &image["Manifests"][0];
    ensure!(
        manifest["ID"] == image["Id"]
            && manifest["Kind"] == "image"
            && manifest["Available"] == true
            && manifest["Size"]["Total"] == image["Size"]
            && manifest["ImageData"]["Platform"]["os"] == "linux"
            && manifest["ImageData"]["Size"]["Unpacked"]
                .as_u64()
                .is_some_and(|size| size > 100_000),
        "{manifest}"
    );
    let older = api.at("1.46").get_json(&format!("/images/json?manifests=1&shared-size=1&{of}"))?;
    ensure!(older[0].get("Manifests").is_none(), "{older}");
    let oldest = api.at("1.41").get_json(&format!("/images/json?shared-size=1&{of}"))?;
    ensure!(oldest[0]["SharedSize"] == -1, "{oldest}");
    let inspected = api.get_json(&format!("/images/{name}/json?manifests=1"))?;
    ensure!(inspected["Manifests"][0]["ID"] == image["Id"], "{inspected}");
    Ok(())
}

fn disk_usage_tells_sizes(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let volume = unique("df");
    let mut body =
        e2e::api::script_body("head -c 300000 /dev/zero > /v/f; head -c 200000 /dev/zero > /f");
    body["HostConfig"]["Binds"] = json!([format!("{volume}:/v")]);
    let container = api.create(body)?;
    container.start()?;
    container.wait()?;
    let old = api.at("1.51").get_json("/system/df")?;
    let of = |list: &str, key: &str, value: &str| -> Result<Value> {
        let mut items = old[list].as_array().with_context(|| format!("no {list}"))?.iter();
        Ok(items.find(|item| item[key] == value).with_context(|| format!("no {value}"))?.clone())
    };
    let used = of("Volumes", "Name", &volume)?["UsageData"].clone();
    ensure!(used["RefCount"] == 1, "{used}");
    ensure!(used["Size"].as_u64().is_some_and(|size| size >= 300_000), "{used}");
    let written = of("Containers", "Id", &container.id)?;
    ensure!(written["SizeRw"].as_u64().is_some_and(|size| size >= 200_000), "{written}");
    ensure!(written["SizeRootFs"].as_u64() > written["SizeRw"].as_u64(), "{written}");
    ensure!(old["Images"][0]["SharedSize"].as_i64().is_some_and(|size| size >= 0), "{old}");
    ensure!(
        old["LayersSize"].as_u64().is_some_and(|size| size > 100_000)
            && old["BuildCache"] == json!([])
    );
    ensure!(old.get("ImageUsage").is_none(), "{old}");
    let new = api.get_json("/system/df")?;
    ensure!(new["Images"] == new["ImageUsage"]["Items"], "{new}");
    ensure!(new["ContainerUsage"]["TotalCount"].as_u64().is_some_and(|count| count > 0), "{new}");
    let verbose = api.get_json("/system/df?verbose=1&type=volume")?;
    let keys: Vec<&String> = verbose.as_object().context("no object")?.keys().collect();
    ensure!(keys == ["VolumeUsage"], "{keys:?}");
    ensure!(verbose["VolumeUsage"]["Items"].is_array(), "{verbose}");
    let one = api.at("1.51").get_json("/system/df?type=container&type=build-cache")?;
    ensure!(one.get("Images").is_none() && one["Containers"].is_array(), "{one}");
    let unknown = api.get("/system/df?type=x")?.expect_error(400)?;
    ensure!(unknown == "unknown object type: x", "{unknown}");
    container.remove()?;
    api.delete(&format!("/volumes/{volume}"))?.expect(204)?;
    Ok(())
}

fn docker_system_df(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let docker = Docker::newest(host).or_skip()?;
    host.api().have(BUSYBOX)?;
    let out = docker.run(&["system", "df"])?.success()?;
    for row in ["Images", "Containers", "Local Volumes", "Build Cache"] {
        ensure!(out.lines().any(|line| line.starts_with(row)), "{out}");
    }
    let out = docker.run(&["system", "df", "-v"])?.success()?;
    ensure!(out.contains("busybox"), "{out}");
    let old = Docker::debian(host).or_skip()?;
    old.run(&["system", "df"])?.success()?;
    Ok(())
}

fn searches_that_cannot_be(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for query in [
        "term=x&limit=x".to_owned(),
        "term=x&limit=101".to_owned(),
        format!("term={}", encode("https://x/y")),
        format!("term=x&{}", filters(&[("stars", "x")])),
        format!("term=x&{}", filters(&[("name", "x")])),
    ] {
        let answer = api.get(&format!("/images/search?{query}"))?;
        answer.expect_error(400).with_context(|| query)?;
    }
    let none =
        api.get_json(&format!("/images/search?term=x&{}", filters(&[("is-automated", "true")])))?;
    ensure!(none == json!([]), "{none}");
    // There is no hub in the rig.
    let error = api.get("/images/search?term=x")?.expect_error(500)?;
    ensure!(error.contains("index.docker.io"), "{error}");
    Ok(())
}
