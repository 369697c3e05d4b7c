//! How registries are found and reached: mirrors, insecure ones, and those that lie.

use e2e::api::pull_messages;
use e2e::host::{Engine, MIRROR};
use e2e::{Result, Rig, Test, ensure, tests};
use serde_json::json;

pub(crate) const TESTS: &[Test] = tests![mirrors_and_insecure_registries_are_options];

fn mirrors_and_insecure_registries_are_options(rig: &Rig) -> Result<()> {
    crate::needs_rig(rig.host()?)?;
    let options = |plan: &mut e2e::host::Plan| {
        if plan.engine == Engine::Nerdctld {
            // dockerd has it from the rig, which gives us a hosts.toml for the same.
            plan.arguments.push(format!("--registry-mirror=http://{MIRROR}"));
            plan.arguments.push("--hosts-dir=/nowhere".to_owned());
        }
        plan.arguments.push("--insecure-registry=r.example:5000".to_owned());
        plan.arguments.push("--insecure-registry=10.9.0.0/16".to_owned());
    };
    rig.with_own_host(options, |host| {
        let api = host.api();
        let registries = api.get_json("/info")?["RegistryConfig"].clone();
        ensure!(registries["Mirrors"] == json!([format!("http://{MIRROR}/")]), "{registries}");
        let hub = &registries["IndexConfigs"]["docker.io"];
        ensure!(hub["Mirrors"] == registries["Mirrors"] && hub["Secure"] == true, "{registries}");
        let insecure = &registries["IndexConfigs"]["r.example:5000"];
        let expected =
            json!({"Name": "r.example:5000", "Mirrors": [], "Secure": false, "Official": false});
        ensure!(*insecure == expected, "{registries}");
        let blocks = registries["InsecureRegistryCIDRs"].as_array().cloned().unwrap_or_default();
        for block in ["10.9.0.0/16", "127.0.0.0/8", "::1/128"] {
            ensure!(blocks.contains(&json!(block)), "{block}: {registries}");
        }
        let pulled = api.post("/images/create?fromImage=hello-world&tag=linux")?;
        pull_messages(&pulled.expect(200)?)?;
        Ok(())
    })
}
