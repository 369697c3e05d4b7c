//! A container's life, run by run.

use std::fs;
use std::net::TcpListener;

use cni::Attachment;
use jiff::Timestamp;
use nerdctl_store::hosts::FurtherNames;
use nerdctl_store::labels::values::DnsSettings;
use nerdctl_store::state_dir::{ExitRecord, Run};
use networking::Release;
use serde_json::Value;

use super::rig::{Process, on_own_host};

#[test]
fn a_container_is_attached_and_detached() {
    on_own_host("bridge::runs::a_container_is_attached_and_detached", async |host| {
        let container = host.container("web", r#"["bridge"]"#);
        let state = host.store().state_dir(&container.namespace, &container.id);
        let files = host
            .networks
            .prepare_files(&container, &DnsSettings::default(), &[], &FurtherNames::default())
            .await
            .unwrap();
        assert_eq!(fs::read_to_string(&files.hosts).unwrap(), "");
        assert_eq!(fs::read_to_string(&files.hostname).unwrap(), "web-host\n");
        assert!(fs::read_to_string(&files.resolv_conf).unwrap().contains("nameserver "));

        let process = Process::start();
        let run = host.networks.create_runtime(&container, process.pid(), None).await.unwrap();

        // The kernel
        let addresses = process.inside(&["ip", "-4", "-o", "addr", "show", "eth0"]);
        assert!(addresses.contains("10.4.0.2/24"), "{addresses}");
        assert!(process.inside(&["ip", "route"]).contains("default via 10.4.0.1"));
        assert!(host.links().contains("nerdctl0"));
        assert!(host.rules().contains(&container.cni_id()));
        // CNI
        let leases = host.leases();
        assert_eq!(leases.len(), 1);
        assert_eq!(leases[0].address.to_string(), "10.4.0.2");
        assert_eq!(
            (leases[0].container_id.as_str(), leases[0].if_name.as_deref()),
            (container.cni_id().as_str(), Some("eth0"))
        );
        assert_eq!(host.cache(), [format!("bridge-{}-eth0", container.cni_id())]);
        // nerdctl's files
        assert_eq!(host.owner("web").as_deref(), Some(container.id.as_str()));
        assert_eq!(
            host.hosts_file(&container),
            "# <nerdctl>\n127.0.0.1\tlocalhost localhost.localdomain\n::1\t\tlocalhost localhost.localdomain\n\
             192.0.2.9       db\n10.4.0.2        web-host web\n# </nerdctl>\n"
        );
        let meta = fs::read_to_string(host.meta_file(&container)).unwrap();
        let start = format!(
            r#"{{"ID":"{}","Networks":{{"bridge":{{"cniVersion":"1.1.0","interfaces":[{{"mac":""#,
            container.id
        );
        assert!(meta.starts_with(&start), "{meta}");
        let end = concat!(
            r#""ips":[{"address":"10.4.0.2/24","gateway":"10.4.0.1","interface":2}],"routes":[{"dst":"0.0.0.0/0"}]}},"#,
            r#""Hostname":"web-host","ExtraHosts":{"db":"192.0.2.9"},"Name":"web","Domainname":""}"#
        );
        assert!(meta.ends_with(end), "{meta}");
        assert_eq!(state.lifecycle().unwrap().run(), Some(run));
        assert_eq!(run.pid, process.pid());

        // Exit, and release by the daemon
        process.end();
        let exit = ExitRecord {
            exit_code: 137,
            finished_at: Timestamp::now(),
            oom_killed: false,
            run: Some(run),
        };
        assert!(state.record_exit(&exit).unwrap());
        assert_eq!(host.networks.release_after_exit(&container, run).await.unwrap(), Release::Done);
        host.assert_detached(&container);
        let meta: Value =
            serde_json::from_slice(&fs::read(host.meta_file(&container)).unwrap()).unwrap();
        assert_eq!(meta["Networks"], serde_json::json!({}));
        assert!(!host.hosts_file(&container).contains("10.4.0.2"));
        assert_eq!(state.exit_of(run).unwrap(), Some(exit));

        // Deletion of the task
        host.networks.post_stop(&container).await.unwrap();
        assert!(!host.meta_file(&container).exists());
        assert_eq!(
            host.owner("web").as_deref(),
            Some(container.id.as_str()),
            "a stopped container keeps its name"
        );

        // The next run forgets the exit.
        let process = Process::start();
        let second = host.networks.create_runtime(&container, process.pid(), None).await.unwrap();
        assert_eq!(state.last_exit().unwrap(), None);
        assert!(!state.record_exit(&exit).unwrap(), "the news of the first exit come too late");
        assert_eq!(
            host.networks.release_after_exit(&container, run).await.unwrap(),
            Release::AnotherRun
        );
        assert_eq!(host.leases().len(), 1, "the second run keeps its address");
        assert_ne!(second, run);

        // Without a daemon the hook does it all.
        process.end();
        host.networks.post_stop(&container).await.unwrap();
        host.assert_detached(&container);
        host.networks.remove_files(&container).await.unwrap();
        assert!(!files.hosts.exists());
    });
}

#[test]
fn containers_of_a_network_know_each_other_by_name() {
    on_own_host("bridge::runs::containers_of_a_network_know_each_other_by_name", async |host| {
        let (web, api) =
            (host.container("web", r#"["bridge"]"#), host.container("api", r#"["bridge"]"#));
        let (first, second) = (Process::start(), Process::start());
        let run = host.networks.create_runtime(&web, first.pid(), None).await.unwrap();
        host.networks.create_runtime(&api, second.pid(), None).await.unwrap();
        for container in [&web, &api] {
            let hosts = host.hosts_file(container);
            assert!(
                hosts.contains("10.4.0.2        web-host web\n10.4.0.3        api-host api\n"),
                "{hosts}"
            );
        }
        host.networks.rename_in_hosts(&web, "front").await.unwrap();
        assert!(host.hosts_file(&api).contains("10.4.0.2        web-host front\n"));

        first.end();
        host.networks.release_after_exit(&web, run).await.unwrap();
        assert!(!host.hosts_file(&api).contains("10.4.0.2"));
        assert!(host.rules().contains(&api.cni_id()), "the other one's rules stay");
        let gateway = TcpListener::bind("10.4.0.1:0").unwrap();
        let connect = format!("exec 3<>/dev/tcp/10.4.0.1/{}", gateway.local_addr().unwrap().port());
        second.inside(&["bash", "-c", &connect]);
    });
}

#[test]
fn a_run_that_nobody_ended_does_not_keep_its_address() {
    on_own_host("bridge::runs::a_run_that_nobody_ended_does_not_keep_its_address", async |host| {
        let container = host.container("web", r#"["bridge"]"#);
        let process = Process::start();
        host.networks.create_runtime(&container, process.pid(), None).await.unwrap();
        process.end();
        host.lose_power();

        let process = Process::start();
        host.networks.create_runtime(&container, process.pid(), None).await.unwrap();
        assert_eq!(host.leases().len(), 1);
        process.end();
        host.networks.post_stop(&container).await.unwrap();
        host.assert_detached(&container);
    });
}

#[test]
fn none_and_host_are_announced_without_addresses() {
    on_own_host("bridge::runs::none_and_host_are_announced_without_addresses", async |host| {
        let (none, shared) =
            (host.container("none", r#"["none"]"#), host.container("host", r#"["host"]"#));
        host.networks
            .prepare_files(&none, &DnsSettings::default(), &[], &FurtherNames::default())
            .await
            .unwrap();
        let files = host
            .networks
            .prepare_files(&shared, &DnsSettings::default(), &[], &FurtherNames::default())
            .await
            .unwrap();
        let hosts = host.hosts_file(&none);
        assert!(hosts.contains("192.0.2.9       db\n"), "{hosts}");
        let hosts_own = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        for server in hosts_own.lines().filter_map(|line| line.strip_prefix("nameserver ")) {
            assert!(fs::read_to_string(&files.resolv_conf).unwrap().contains(server));
        }
        let meta: Value =
            serde_json::from_slice(&fs::read(host.meta_file(&none)).unwrap()).unwrap();
        assert_eq!(meta["Networks"], Value::Null);

        let run = host.networks.create_runtime(&none, std::process::id(), None).await.unwrap();
        assert_eq!(host.networks.release_after_exit(&none, run).await.unwrap(), Release::Done);
        host.networks.post_stop(&none).await.unwrap();
        assert!(host.meta_file(&none).exists(), "it stays until the container is removed");
        assert!(!host.netconf().exists(), "CNI was not asked");
        let other = Run { pid: 1, ..run };
        assert_ne!(
            host.store().state_dir(&none.namespace, &none.id).lifecycle().unwrap().run(),
            Some(other)
        );
    });
}

#[test]
fn a_stop_by_nerdctl_leaves_no_rules() {
    on_own_host("bridge::runs::a_stop_by_nerdctl_leaves_no_rules", async |host| {
        let container = host.container("web", r#"["bridge"]"#);
        let process = Process::start();
        let run = host.networks.create_runtime(&container, process.pid(), None).await.unwrap();
        // `nerdctl stop` detaches first and signals then.
        let conflists = host.networks.conflists(&container.namespace).await.unwrap();
        let attachment = Attachment {
            container_id: container.cni_id(),
            if_name: "eth0".into(),
            ..Attachment::default()
        };
        host.cni().del(conflists.default_network().unwrap(), &attachment).await.unwrap();
        assert!(host.rules().contains(&container.cni_id()), "{}", host.rules());

        process.end();
        assert_eq!(host.networks.release_after_exit(&container, run).await.unwrap(), Release::Done);
        host.assert_detached(&container);
    });
}
