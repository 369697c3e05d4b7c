//! libcni's cache: which container is attached to what, and how.
//!
//! One file `<cache>/results/<network>-<container id>-<interface>` for each attachment, written after the last plugin
//! of an `ADD` and deleted after a `DEL`. It keeps the conflist as it was, so that a network can be detached from
//! after its conflist has changed or gone. Source: containernetworking/cni `libcni/api.go` (`cachedInfo`).

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::fs;

use crate::error::{CniError, IoContext, Result};
use crate::{Attachment, Conflist};

const KIND: &str = "cniCacheV1";

/// What the cache knows of one attachment.
#[derive(Debug, Clone, PartialEq)]
pub struct CachedAttachment {
    /// Name of the network.
    pub network: String,
    /// What the attachment was made with; `netns` is the one of that time.
    pub attachment: Attachment,
    /// The conflist as it was; `None` if it cannot be read any more.
    pub conflist: Option<Conflist>,
    /// What `ADD` gave, in the conflist's version.
    pub result: Option<Value>,
}

/// The file. Field order is that of the Go struct.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    kind: String,
    container_id: String,
    config: String,
    if_name: String,
    network_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    netns: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cni_args: Option<Vec<(String, String)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capability_args: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
}

/// Remembers an attachment.
pub(crate) async fn store(
    cache: &Path,
    list: &Conflist,
    attachment: &Attachment,
    result: Value,
) -> Result<()> {
    let path = path_of(cache, &list.name, attachment);
    let mut result = result;
    if let Some(result) = result.as_object_mut() {
        // libcni does not keep an empty one.
        result.retain(|key, value| {
            key != "dns" || value.as_object().is_none_or(|dns| !dns.is_empty())
        });
    }
    let netns = attachment.netns.as_deref().unwrap_or(Path::new("")).to_string_lossy().into_owned();
    let file = File {
        kind: KIND.to_owned(),
        container_id: attachment.container_id.clone(),
        config: STANDARD.encode(&list.bytes),
        if_name: attachment.if_name.clone(),
        network_name: list.name.clone(),
        netns,
        cni_args: Some(attachment.args.clone()).filter(|args| !args.is_empty()),
        capability_args: Some(attachment.capability_args.clone()).filter(|args| !args.is_empty()),
        result: Some(result),
    };
    let text = serde_json::to_string(&file)
        .map_err(|source| CniError::NotJson { path: path.clone(), source })?;
    let folder = cache.join("results");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .await
        .during("create", &folder)?;
    write(&path, text.as_bytes()).await.during("write", &path)
}

async fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use tokio::io::AsyncWriteExt;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .await?;
    file.write_all(bytes).await?;
    file.flush().await
}

/// Forgets an attachment; not knowing it is success.
pub(crate) async fn forget(cache: &Path, network: &str, attachment: &Attachment) -> Result<()> {
    let path = path_of(cache, network, attachment);
    match fs::remove_file(&path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).during("delete", &path),
        _ => Ok(()),
    }
}

/// One attachment; `None` if the cache does not have it, or not in a form we know.
pub(crate) async fn load(
    cache: &Path,
    network: &str,
    attachment: &Attachment,
) -> Option<CachedAttachment> {
    decode(&fs::read(path_of(cache, network, attachment)).await.ok()?)
}

/// All attachments of a container.
pub(crate) async fn of_container(
    cache: &Path,
    container_id: &str,
) -> Result<Vec<CachedAttachment>> {
    let folder = cache.join("results");
    let mut entries = match fs::read_dir(&folder).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).during("list", &folder),
    };
    let part = format!("-{container_id}-");
    let mut found = Vec::new();
    while let Some(entry) = entries.next_entry().await.during("list", &folder)? {
        if !entry.file_name().to_string_lossy().contains(&part) {
            continue;
        }
        let cached = fs::read(entry.path()).await.ok().and_then(|bytes| decode(&bytes));
        found.extend(cached.filter(|cached| cached.attachment.container_id == container_id));
    }
    found.sort_by(|a, b| a.attachment.if_name.cmp(&b.attachment.if_name));
    Ok(found)
}

fn path_of(cache: &Path, network: &str, attachment: &Attachment) -> PathBuf {
    cache
        .join("results")
        .join(format!("{network}-{}-{}", attachment.container_id, attachment.if_name))
}

fn decode(bytes: &[u8]) -> Option<CachedAttachment> {
    let file: File = serde_json::from_slice(bytes).ok().filter(|file: &File| file.kind == KIND)?;
    let conflist =
        STANDARD.decode(&file.config).ok().and_then(|bytes| Conflist::parse(&bytes, None).ok());
    Some(CachedAttachment {
        network: file.network_name,
        attachment: Attachment {
            container_id: file.container_id,
            netns: Some(file.netns).filter(|path| !path.is_empty()).map(PathBuf::from),
            if_name: file.if_name,
            args: file.cni_args.unwrap_or_default(),
            capability_args: file.capability_args.unwrap_or_default(),
        },
        conflist,
        result: file.result,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_attachment_is_remembered_in_libcnis_form() {
        let dir = tempfile::tempdir().unwrap();
        let conflist = br#"{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"bridge"}]}"#;
        let list = Conflist::parse(conflist, None).unwrap();
        let attachment = Attachment {
            container_id: "default-abc".into(),
            netns: Some("/proc/7/ns/net".into()),
            if_name: "eth0".into(),
            args: vec![("IgnoreUnknown".into(), "1".into())],
            capability_args: Map::from_iter([("ips".into(), serde_json::json!(["fd00::2"]))]),
        };
        let result =
            serde_json::json!({"cniVersion": "1.0.0", "ips": [{"address": "10.4.0.2/24"}]});
        let mut with_empty_dns = result.clone();
        with_empty_dns["dns"] = serde_json::json!({});
        store(dir.path(), &list, &attachment, with_empty_dns).await.unwrap();

        let file =
            std::fs::read_to_string(dir.path().join("results/net-default-abc-eth0")).unwrap();
        assert_eq!(
            file,
            format!(
                concat!(
                    r#"{{"kind":"cniCacheV1","containerId":"default-abc","config":"{}","ifName":"eth0","#,
                    r#""networkName":"net","netns":"/proc/7/ns/net","cniArgs":[["IgnoreUnknown","1"]],"#,
                    r#""capabilityArgs":{{"ips":["fd00::2"]}},"#,
                    r#""result":{{"cniVersion":"1.0.0","ips":[{{"address":"10.4.0.2/24"}}]}}}}"#
                ),
                STANDARD.encode(conflist)
            )
        );

        let cached = of_container(dir.path(), "default-abc").await.unwrap();
        assert_eq!(cached.len(), 1);
        assert_eq!(cached[0].attachment, attachment);
        assert_eq!(cached[0].result, Some(result));
        assert_eq!(cached[0].conflist.as_ref().unwrap().name, "net");
        assert!(
            of_container(dir.path(), "abc").await.unwrap().is_empty(),
            "a part of an id is not the id"
        );

        forget(dir.path(), "net", &attachment).await.unwrap();
        forget(dir.path(), "net", &attachment).await.unwrap();
        assert!(load(dir.path(), "net", &attachment).await.is_none());
    }

    #[test]
    fn foreign_files_are_not_ours_to_read() {
        assert_eq!(decode(b"{}"), None);
        assert_eq!(decode(br#"{"cniVersion":"0.3.1","ips":[]}"#), None);
    }
}
