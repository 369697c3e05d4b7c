//! Runs of plugins: shell scripts that write down what they were given and answer as they are told.

#[cfg(test)]
mod plugins {
    use std::fs::{self, OpenOptions, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use cni::{Attachment, Cni, CniError, Conflist};
    use serde_json::{Map, Value, json};

    /// Answers ADD with the address in its configuration, or with the previous result if it has none.
    const RECORDER: &str = r#"#!/bin/sh
dir=$(dirname "$0")
input=$(cat)
name=$(basename "$0")
echo "$CNI_COMMAND $name" >> "$dir/order"
printf '%s' "$input" > "$dir/$name.$CNI_COMMAND.json"
env | grep '^CNI_' | sort > "$dir/$name.$CNI_COMMAND.env"
if [ "$CNI_COMMAND" = ADD ]; then
  echo '{"cniVersion":"1.0.0","ips":[{"address":"10.4.0.5/24"}],"by":"'$name'"}'
fi
"#;

    struct Host {
        dir: tempfile::TempDir,
        cni: Cni,
    }

    impl Host {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let cni = Cni::new(vec![dir.path().join("empty"), dir.path().to_owned()])
                .with_cache_dir(dir.path().join("cache"));
            Self { dir, cni }
        }

        fn plugin(self, name: &str, script: &str) -> Self {
            let path = self.dir.path().join(name);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
            self
        }

        fn recorded(&self, file: &str) -> String {
            fs::read_to_string(self.dir.path().join(file)).unwrap()
        }

        fn request(&self, plugin: &str, command: &str) -> Value {
            serde_json::from_str(&self.recorded(&format!("{plugin}.{command}.json"))).unwrap()
        }

        fn cache_file(&self) -> PathBuf {
            self.dir.path().join("cache/results/net-default-abc-eth0")
        }
    }

    fn list(plugins: &Value) -> Conflist {
        let text = json!({"cniVersion": "1.0.0", "name": "net", "plugins": plugins}).to_string();
        Conflist::parse(text.as_bytes(), None).unwrap()
    }

    fn attachment() -> Attachment {
        Attachment {
            container_id: "default-abc".into(),
            netns: Some("/proc/42/ns/net".into()),
            if_name: "eth0".into(),
            args: vec![("IgnoreUnknown".into(), "1".into()), ("IP".into(), "10.4.0.5".into())],
            capability_args: Map::from_iter([
                ("portMappings".into(), json!([{"HostPort": 1}])),
                ("ips".into(), json!(["fd00::5"])),
            ]),
        }
    }

    #[tokio::test]
    async fn a_list_is_added_forwards_and_deleted_backwards() {
        let host = Host::new().plugin("first", RECORDER).plugin("second", RECORDER);
        let list = list(&json!([
            {"type": "first", "mtu": 1400},
            {"type": "second", "capabilities": {"portMappings": true, "ips": false}}
        ]));
        let attachment = attachment();

        let result = host.cni.add(&list, &attachment).await.unwrap();
        assert_eq!(result.ips[0].address.to_string(), "10.4.0.5/24");
        assert_eq!(
            host.request("first", "ADD"),
            json!({"type": "first", "mtu": 1400, "name": "net", "cniVersion": "1.0.0"})
        );
        let of_first =
            json!({"cniVersion": "1.0.0", "ips": [{"address": "10.4.0.5/24"}], "by": "first"});
        assert_eq!(
            host.request("second", "ADD"),
            json!({
                "type": "second", "name": "net", "cniVersion": "1.0.0",
                "capabilities": {"portMappings": true, "ips": false},
                "runtimeConfig": {"portMappings": [{"HostPort": 1}]},
                "prevResult": of_first
            })
        );
        let dir = host.dir.path().display();
        assert_eq!(
            host.recorded("first.ADD.env"),
            format!(
                "CNI_ARGS=IgnoreUnknown=1;IP=10.4.0.5\nCNI_COMMAND=ADD\nCNI_CONTAINERID=default-abc\n\
                 CNI_IFNAME=eth0\nCNI_NETNS=/proc/42/ns/net\nCNI_PATH={dir}/empty:{dir}\n"
            )
        );
        assert!(host.cache_file().exists());

        host.cni.check(&list, &attachment).await.unwrap();
        let gone = Attachment { netns: None, ..attachment.clone() };
        host.cni.del(&list, &gone).await.unwrap();
        for (plugin, command) in
            [("first", "CHECK"), ("second", "CHECK"), ("first", "DEL"), ("second", "DEL")]
        {
            assert_eq!(
                host.request(plugin, command)["prevResult"]["by"],
                "second",
                "{plugin} {command}"
            );
        }
        assert!(host.recorded("first.DEL.env").contains("CNI_NETNS=\n"));
        assert_eq!(
            host.recorded("order"),
            "ADD first\nADD second\nCHECK first\nCHECK second\nDEL second\nDEL first\n"
        );
        assert!(!host.cache_file().exists());
        host.cni.del(&list, &gone).await.unwrap();
    }

    #[tokio::test]
    async fn plugins_before_0_4_0_get_no_result_at_the_end() {
        let host = Host::new().plugin("old", RECORDER);
        let text = br#"{"cniVersion":"0.3.1","name":"net","plugins":[{"type":"old"}]}"#;
        let list = Conflist::parse(text, None).unwrap();
        host.cni.add(&list, &attachment()).await.unwrap();
        host.cni.check(&list, &attachment()).await.unwrap();
        host.cni.del(&list, &attachment()).await.unwrap();
        assert_eq!(host.request("old", "DEL").get("prevResult"), None);
        assert_eq!(host.recorded("order"), "ADD old\nDEL old\n");
    }

    #[tokio::test]
    async fn a_plugins_own_words_are_the_error() {
        let json = r#"#!/bin/sh
echo '{"cniVersion":"1.0.0","code":11,"msg":"no addresses left","details":"range 10.4.0.0/24"}'; exit 1"#;
        let text = "#!/bin/sh\necho 'no such device' >&2; exit 3";
        let host = Host::new().plugin("json", json).plugin("text", text);

        let error =
            host.cni.add(&list(&json!([{"type": "json"}])), &attachment()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"CNI plugin "json" failed (ADD): no addresses left; range 10.4.0.0/24"#
        );
        assert!(matches!(error, CniError::Refused { code: 11, .. }));
        assert!(!host.cache_file().exists());

        let error =
            host.cni.del(&list(&json!([{"type": "text"}])), &attachment()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"CNI plugin "text" failed (DEL): exit status: 3: no such device"#
        );
    }

    #[tokio::test]
    async fn what_is_no_result_is_refused() {
        let host = Host::new()
            .plugin("silent", "#!/bin/sh\ncat > /dev/null")
            .plugin("wrong", "#!/bin/sh\ncat > /dev/null; echo '{\"ips\":[{\"address\":\"x\"}]}'")
            .plugin("flood", "#!/bin/sh\nyes | head -c 3000000");
        for plugin in ["silent", "wrong"] {
            let error =
                host.cni.add(&list(&json!([{"type": plugin}])), &attachment()).await.unwrap_err();
            assert!(matches!(error, CniError::BadResult { .. }), "{plugin}: {error}");
        }
        let error =
            host.cni.add(&list(&json!([{"type": "flood"}])), &attachment()).await.unwrap_err();
        assert!(matches!(error, CniError::NotRun { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_hanging_plugin_is_killed() {
        let host = Host::new()
            .plugin("hangs", "#!/bin/sh\necho $$ > \"$(dirname \"$0\")/pid\"; exec sleep 1000");
        let cni = host.cni.clone().with_deadline(Duration::from_millis(300));
        let error = cni.add(&list(&json!([{"type": "hangs"}])), &attachment()).await.unwrap_err();
        assert!(matches!(error, CniError::TimedOut { .. }), "{error}");
        let process = PathBuf::from("/proc").join(host.recorded("pid").trim());
        let started = Instant::now();
        while fs::read_to_string(process.join("cmdline"))
            .is_ok_and(|command| command.contains("1000"))
        {
            assert!(started.elapsed() < Duration::from_secs(30), "it lives on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_plugin_that_is_being_installed_is_tried_again() {
        let host = Host::new().plugin("busy", RECORDER);
        // A binary, because the kernel refuses only those while they are open for writing.
        let path = host.dir.path().join("busy");
        fs::copy("/bin/true", &path).unwrap();
        let writer = OpenOptions::new().append(true).open(&path).unwrap();
        let list = list(&json!([{"type": "busy"}]));
        let attachment = attachment();
        let installed = async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            drop(writer);
        };
        let (deleted, ()) = tokio::join!(host.cni.del(&list, &attachment), installed);
        deleted.unwrap();
    }

    #[tokio::test]
    async fn a_missing_plugin_is_named_with_its_folders() {
        let host = Host::new();
        let dir = host.dir.path().display().to_string();
        for plugin in ["absent", "../absent"] {
            let error =
                host.cni.add(&list(&json!([{"type": plugin}])), &attachment()).await.unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("CNI plugin {plugin:?} is not in {dir}/empty:{dir}")
            );
        }
    }
}
