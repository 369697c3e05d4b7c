//! What a creation makes, and what it leaves when it fails.

use std::collections::BTreeMap;
use std::time::Duration;

use containerd::containers::{ContainerPatch, NewContainer};
use containerd::tasks::CreateTask;
use containerd::{Any, Labels};
use engine::containers::{ContainerSpec, LogSource, NetworkMode, Owner, Phase, record};
use engine::{Class, Error};

use super::rig::{IMAGE, Rig, request};

#[tokio::test]
async fn a_container_is_made_as_nerdctl_expects_it() {
    let Some(rig) = Rig::start("a_container_is_made_as_nerdctl_expects_it").await else { return };
    let engine = rig.engine();
    let asked = ContainerSpec {
        name: Some("web".parse().unwrap()),
        labels: BTreeMap::from([("mine".into(), "1".into()), ("empty".into(), String::new())]),
        user: "web".into(),
        ..request()
    };
    let created = engine.create_container(asked).await.unwrap();
    assert_eq!(created.warnings, Vec::<String>::new());

    let id = created.id.as_str();
    let record = rig.client().get_container(id).await.unwrap();
    assert_eq!((record.image.as_str(), record.snapshot_key.as_str()), (IMAGE, id));
    let label = |key: &str| record.labels.get(key).map(String::as_str);
    assert_eq!(label("nerdctl/name"), Some("web"));
    assert_eq!(label("nerdctl/networks"), Some(r#"["none"]"#));
    assert_eq!(label("nerdctl/extraHosts"), Some("[]"));
    assert_eq!(label("nerdctl/user"), Some("web"));
    assert_eq!(label("nerdctl/hostname"), Some(created.id.short()));
    assert_eq!(label("io.containerd.image.config.stop-signal"), Some("SIGQUIT"));
    assert_eq!((label("mine"), label("from")), (Some("1"), Some("image")));
    assert_eq!(
        (label("empty"), label("nerdctl/pid-file")),
        (None, None),
        "containerd has no empty ones, we no strange ones"
    );
    assert!(label("nerdctl/log-uri").unwrap().starts_with("binary:///bin/true?"));
    rig.client().snapshotter(rig.snapshotter()).stat(id).await.unwrap();

    let spec: serde_json::Value = serde_json::from_slice(&record.spec.unwrap().value).unwrap();
    let user = serde_json::json!({"uid": 33, "gid": 34, "additionalGids": [34, 44]});
    assert_eq!(spec["process"]["user"], user, "from the image's upper layer");
    assert_eq!(spec["annotations"]["nerdctl/name"], "web");

    let files = rig.files();
    let has = |end: &str| files.iter().any(|file| file.ends_with(end));
    for file in [
        "names/default/web",
        &format!("containers/default/{id}/{id}-json.log"),
        &format!("containers/default/{id}/log-config.json"),
        &format!("containers/default/{id}/network-config.json"),
        &format!("containers/default/{id}/resolv.conf"),
        &format!("containers/default/{id}/hostname"),
        &format!("etchosts/default/{id}/hosts"),
        &format!("etchosts/default/{id}/meta.json"),
    ] {
        assert!(has(file), "{file} in {files:#?}");
    }
    assert!(rig.client().list_leases(&[]).await.unwrap().is_empty());

    let details = engine.inspect_container("web").await.unwrap();
    let container = &details.container;
    assert_eq!((&container.owner, container.state.phase), (&Owner::Nerdctld, Phase::Created));
    assert_eq!((container.image.as_str(), container.command.len()), ("box", 2));
    assert!(container.image_id.starts_with("sha256:"));
    assert_eq!(container.labels.keys().collect::<Vec<_>>(), ["empty", "from", "mine"]);
    assert!(matches!(&container.log, LogSource::JsonFile(path) if path.exists()));
    assert_eq!(details.recorded.unwrap().0.as_ref(), br#"{"Image":"box"}"#);
    assert_eq!((details.process.cwd.as_str(), details.process.user.as_str()), ("/srv", "web"));
    engine.shutdown().await;
}

#[tokio::test]
async fn runc_takes_the_spec() {
    let Some(rig) = Rig::start("runc_takes_the_spec").await else { return };
    let engine = rig.engine();
    // Each condition is a bit of the exit code.
    let script = "b=/bin/busybox; e=0; \
        [ \"$($b id -u):$($b id -G)\" = '33:34 44' ] || e=$((e+1)); \
        [ \"$($b hostname)\" = box ] || e=$((e+2)); \
        [ \"$($b pwd)\" = /srv ] || e=$((e+4)); \
        $b mount -t tmpfs none /srv 2>/dev/null && e=$((e+8)); \
        [ \"$HOSTNAME:$PATH\" = box:/bin ] || e=$((e+16)); \
        [ -c /dev/null ] || e=$((e+32)); \
        $b grep -q 'Seccomp:.2' /proc/self/status || e=$((e+64)); \
        exit $e";
    let asked = ContainerSpec {
        hostname: Some("box".into()),
        user: "web".into(),
        cmd: Some(["/bin/busybox", "sh", "-c", script].map(str::to_owned).to_vec()),
        ..request()
    };
    let created = engine.create_container(asked).await.unwrap();
    let (client, id) = (rig.client(), created.id.as_str());
    let rootfs = client.snapshotter(rig.snapshotter()).mounts(id).await.unwrap();
    let task = CreateTask { container_id: id.to_owned(), rootfs, ..CreateTask::default() };
    client.create_task(task).await.unwrap();
    client.start_task(id).await.unwrap();
    let exit = client.wait(id, None).await.unwrap();
    client.delete_task(id).await.unwrap();
    assert_eq!(exit.status, 0, "see the bits in the script");
    engine.shutdown().await;
}

#[tokio::test]
async fn a_creation_that_fails_leaves_nothing() {
    let Some(rig) = Rig::start("a_creation_that_fails_leaves_nothing").await else { return };
    let engine = rig.engine();
    let first = ContainerSpec { name: Some("web".parse().unwrap()), ..request() };
    let first_id = engine.create_container(first.clone()).await.unwrap().id;
    let (files, client) = (rig.files(), rig.client());

    let error = engine.create_container(first).await.unwrap_err();
    let expected = format!(
        "Conflict. The container name \"/web\" is already in use by container \"{first_id}\". You have to remove (or \
         rename) that container to be able to reuse that name."
    );
    assert_eq!((error.message(), error.class()), (expected, Class::Conflict));

    let unknown_user = ContainerSpec { user: "nobody".into(), ..request() };
    let error = engine.create_container(unknown_user).await.unwrap_err();
    assert_eq!(error.message(), "unable to find user nobody: no matching entries in passwd file");

    // Somebody of nerdctl's has the name, and no container is known for it.
    let store = nerdctl_store::DataStore::new(
        rig.path().join("data"),
        &rig.path().join("c.sock").display().to_string(),
    );
    let other = names::ContainerId::from_random([7; 32]);
    let taken: names::ContainerName = "taken".parse().unwrap();
    store.names(&names::Namespace::default()).acquire(&taken, &other).unwrap();
    let error = engine
        .create_container(ContainerSpec { name: Some(taken), ..request() })
        .await
        .unwrap_err();
    assert!(matches!(&error, Error::NameInUse { id, .. } if *id == other.to_string()), "{error:?}");

    // The state directory cannot be made: the last step but two.
    let containers = store.path().join("containers/default");
    std::fs::rename(&containers, rig.path().join("aside")).unwrap();
    std::fs::write(&containers, "in the way").unwrap();
    assert!(engine.create_container(request()).await.is_err());
    std::fs::remove_file(&containers).unwrap();
    std::fs::rename(rig.path().join("aside"), &containers).unwrap();

    let mut expected = files;
    expected.push(format!("{}/names/default/taken", store.hash8()));
    expected.sort();
    assert_eq!(rig.files(), expected);
    assert_eq!(client.list_containers(&[]).await.unwrap().len(), 1);
    let snapshots = client.snapshotter(rig.snapshotter()).list(&["kind==active"]).await.unwrap();
    assert_eq!(snapshots.len(), 1);
    engine.shutdown().await;
}

#[tokio::test]
async fn a_creation_that_was_cut_off_is_hidden() {
    let Some(rig) = Rig::start("a_creation_that_was_cut_off_is_hidden").await else { return };
    let engine = rig.engine();
    let whole = engine.create_container(request()).await.unwrap().id;
    let client = rig.client();
    let mut half = client.get_container(whole.as_str()).await.unwrap();
    half.extensions.remove(record::READY);
    let id = names::ContainerId::from_random([9; 32]);
    let cut_off = NewContainer {
        id: id.to_string(),
        labels: Labels::from([("nerdctl/name".into(), "half".into())]),
        runtime_name: half.runtime_name,
        spec: half.spec,
        extensions: half.extensions,
        ..NewContainer::default()
    };
    client.create_container(cut_off).await.unwrap();
    let after = rig.engine();
    let listed = after
        .list_containers(&engine::containers::ListFilter { all: true, ..Default::default() })
        .await
        .unwrap();
    assert_eq!(listed.len(), 1);
    assert!(matches!(after.inspect_container("half").await, Err(Error::NoSuchContainer(_))));

    let mut ready = ContainerPatch::default();
    ready.extensions.insert(record::READY.into(), Any::new(record::READY, "true"));
    client.update_container(id.as_str(), ready).await.unwrap();
    let shown = async {
        while after.inspect_container("half").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), shown).await.unwrap();
    engine.shutdown().await;
    after.shutdown().await;
}

#[tokio::test]
async fn the_hosts_network_has_the_hosts_name() {
    let Some(rig) = Rig::start("the_hosts_network_has_the_hosts_name").await else { return };
    let engine = rig.engine();
    let asked = ContainerSpec { network: NetworkMode::Host, user: "0:0".into(), ..request() };
    let created = engine.create_container(asked).await.unwrap();
    let details = engine.inspect_container(created.id.short()).await.unwrap();
    assert_eq!(details.process.hostname, engine.host().hostname);
    assert_eq!(details.container.network_mode, "host");
    let hosts = std::fs::read_to_string(&details.hosts_path).unwrap();
    assert!(hosts.contains("localhost"));
    assert!(details.container.name.contains('_'), "a name was made up: {}", details.container.name);

    let info = engine.info().await.unwrap();
    assert_eq!((info.containers, info.stopped, info.images), (1, 1, 1));
    assert!(!info.id.is_empty() && info.version.containerd.is_some());
    engine.shutdown().await;
}

#[tokio::test]
async fn an_image_that_is_not_there_is_the_cue_to_pull() {
    let Some(rig) = Rig::start("an_image_that_is_not_there_is_the_cue_to_pull").await else {
        return;
    };
    let engine = rig.engine();
    let asked = ContainerSpec { image: "nosuch".into(), ..request() };
    let error = engine.create_container(asked).await.unwrap_err();
    assert_eq!(error.message(), "No such image: nosuch:latest");
    engine.shutdown().await;
}

#[tokio::test]
async fn without_containerd_only_the_version_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let Some(rig) = Rig::start("without_containerd_only_the_version_is_told").await else { return };
    let settings = engine::Settings {
        containerd_address: directory.path().join("none.sock").display().to_string(),
        ..rig.engine().settings().clone()
    };
    let engine = engine::Engine::start(settings).unwrap();
    let version = engine.version().await;
    assert_eq!(version.containerd, None);
    assert!(!version.kernel.is_empty());
    engine.shutdown().await;
}
