//! What is left when attaching or detaching goes wrong.

use std::fs;

use nerdctl_store::StoreError;
use networking::NetworkingError;

use super::rig::{Process, on_own_host};

#[test]
fn a_failed_start_leaves_nothing_and_keeps_the_container() {
    on_own_host(
        "bridge::trouble::a_failed_start_leaves_nothing_and_keeps_the_container",
        async |host| {
            let container = host.container("web", r#"["bridge","broken"]"#);
            let broken =
                r#"{"cniVersion":"1.0.0","name":"broken","plugins":[{"type":"no-such-plugin"}]}"#;
            fs::create_dir_all(host.netconf().join("default")).unwrap();
            fs::write(host.netconf().join("default/nerdctl-broken.conflist"), broken).unwrap();

            let process = Process::start();
            let error =
                host.networks.create_runtime(&container, process.pid(), None).await.unwrap_err();
            assert!(
                error.to_string().starts_with(r#"CNI plugin "no-such-plugin" is not in "#),
                "{error}"
            );
            host.assert_detached(&container);
            assert!(!process.inside(&["ip", "-o", "link"]).contains("eth0"));

            let state = host.store().state_dir(&container.namespace, &container.id);
            assert!(state.lifecycle().unwrap().create_error);
            assert_eq!(state.lifecycle().unwrap().run(), None);
            // runc runs the other hook now, though the container stays.
            host.networks.post_stop(&container).await.unwrap();
            assert!(!state.lifecycle().unwrap().create_error);
            assert_eq!(host.owner("web").as_deref(), Some(container.id.as_str()));
        },
    );
}

#[test]
fn an_unknown_network_is_named() {
    on_own_host("bridge::trouble::an_unknown_network_is_named", async |host| {
        let container = host.container("web", r#"["bridge","gone"]"#);
        let process = Process::start();
        let error =
            host.networks.create_runtime(&container, process.pid(), None).await.unwrap_err();
        assert_eq!(error.to_string(), "network gone not found");
        host.assert_detached(&container);
    });
}

#[test]
fn a_network_that_was_deleted_can_be_detached_from() {
    on_own_host("bridge::trouble::a_network_that_was_deleted_can_be_detached_from", async |host| {
        let container = host.container("web", r#"["bridge"]"#);
        let process = Process::start();
        host.networks.create_runtime(&container, process.pid(), None).await.unwrap();
        fs::remove_file(host.netconf().join("nerdctl-bridge.conflist")).unwrap();
        process.end();
        host.networks.post_stop(&container).await.unwrap();
        host.assert_detached(&container);
    });
}

#[test]
fn a_broken_neighbour_does_not_stop_us() {
    on_own_host("bridge::trouble::a_broken_neighbour_does_not_stop_us", async |host| {
        let container = host.container("web", r#"["bridge"]"#);
        let neighbour = host.store().path().join("etchosts/default/neighbour");
        fs::create_dir_all(&neighbour).unwrap();
        fs::write(neighbour.join("meta.json"), r#"{"ID":"neighbour","Networks":{"bridge":null}}"#)
            .unwrap();
        fs::create_dir_all(host.netconf()).unwrap();
        fs::write(host.netconf().join("half.conflist"), "{").unwrap();

        let process = Process::start();
        host.networks.create_runtime(&container, process.pid(), None).await.unwrap();
        host.networks.detach(&container, Some(&process.netns())).await.unwrap();
        host.assert_detached(&container);
        assert!(!process.inside(&["ip", "-o", "link"]).contains("eth0"));
    });
}

#[test]
fn a_name_that_was_lost_is_only_logged() {
    on_own_host("bridge::trouble::a_name_that_was_lost_is_only_logged", async |host| {
        let (mine, other) =
            (host.container("web", r#"["none"]"#), host.container("other", r#"["none"]"#));
        let names = host.store().names(&mine.namespace);
        names.acquire(mine.name.as_ref().unwrap(), &other.id).unwrap();
        assert!(matches!(
            names.acquire(mine.name.as_ref().unwrap(), &mine.id),
            Err(StoreError::NameTaken { .. })
        ));
        host.networks.create_runtime(&mine, std::process::id(), None).await.unwrap();
        assert_eq!(host.owner("web").as_deref(), Some(other.id.as_str()));
    });
}

#[test]
fn there_must_be_a_namespace() {
    on_own_host("bridge::trouble::there_must_be_a_namespace", async |host| {
        let container = host.container("web", r#"["bridge"]"#);
        let gone = host.netconf().join("gone");
        let error = host.networks.create_runtime(&container, 1, Some(&gone)).await.unwrap_err();
        assert!(matches!(error, NetworkingError::NoNamespace { .. }), "{error}");
    });
}
