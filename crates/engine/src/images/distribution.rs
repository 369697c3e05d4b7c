//! What a registry has under a name, without pulling it (moby `daemon/server/router/distribution/distribution_routes.go`).

use names::{Digest, ImageRef};
use registry::{Purpose, Repository};
use serde::Deserialize;

use super::documents::{Index, Kind, MAX_DOCUMENT, Manifest};
use super::pull::schema1;
use super::remote::{inspect_error, open_repository};
use super::{Credentials, Descriptor};
use crate::{Engine, Error, Result};

/// What a name stands for at its registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteImage {
    /// Index or manifest.
    pub descriptor: Descriptor,
    /// What it is for, in the registry's words and order; empty where it does not say.
    pub platforms: Vec<RemotePlatform>,
}

/// A platform as its document spells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RemotePlatform {
    /// `os`.
    pub os: String,
    /// `architecture`.
    pub architecture: String,
    /// `variant`; often empty.
    pub variant: String,
    /// `os.version`; only for Windows.
    #[serde(rename = "os.version")]
    pub os_version: String,
    /// `os.features`; only for Windows.
    #[serde(rename = "os.features")]
    pub os_features: Vec<String>,
}

#[derive(Deserialize)]
struct Platforms {
    #[serde(default)]
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    platform: RemotePlatform,
}

impl Engine {
    /// Asks a registry what a name stands for; a name without tag and digest means its tag `latest`.
    ///
    /// # Errors
    /// [`Error::Registry`], [`Error::Unauthorized`], [`Error::TooManyRequests`] as the registry says; [`Error::BadContent`]
    /// for a document that is none.
    pub async fn remote_image(
        &self,
        image: &ImageRef,
        credentials: &Credentials,
    ) -> Result<RemoteImage> {
        let repository = open_repository(self, image, credentials, &[], Purpose::Pull).await?;
        let found = repository.resolve().await.map_err(inspect_error)?;
        if Kind::of(&found.media_type) == Kind::Schema1 {
            return Err(schema1(image));
        }
        let manifest = repository.manifest(&found.digest).await.map_err(inspect_error)?;
        let descriptor = Descriptor {
            media_type: manifest.descriptor.media_type,
            digest: manifest.descriptor.digest.to_string(),
            size: manifest.descriptor.size,
            ..Descriptor::default()
        };
        let platforms = match Kind::of(&descriptor.media_type) {
            Kind::Index => of_index(&descriptor.digest, &manifest.bytes)?,
            Kind::Manifest => of_config(&repository, &descriptor.digest, &manifest.bytes).await?,
            _ => Vec::new(),
        };
        Ok(RemoteImage { descriptor, platforms })
    }
}

fn of_index(digest: &str, bytes: &[u8]) -> Result<Vec<RemotePlatform>> {
    // Entries that say nothing of what they stand for are none, and could be millions.
    Index::parse(digest, bytes)?;
    let index: Platforms = serde_json::from_slice(bytes)
        .map_err(|error| Error::BadContent(format!("invalid index {digest}: {error}")))?;
    Ok(index.manifests.into_iter().map(|entry| entry.platform).collect())
}

/// Only its config says what a single manifest is for; a config that cannot be had, or is none, says nothing.
async fn of_config(
    repository: &Repository,
    digest: &str,
    bytes: &[u8],
) -> Result<Vec<RemotePlatform>> {
    let config = Manifest::parse(digest, bytes)?.config;
    let Ok(digest) = config.digest.parse::<Digest>() else { return Ok(Vec::new()) };
    let Ok(bytes) = repository.small_blob(&digest, config.size, MAX_DOCUMENT).await else {
        return Ok(Vec::new());
    };
    let platform: RemotePlatform = serde_json::from_slice(&bytes).unwrap_or_default();
    let says_something = !platform.os.is_empty() || !platform.architecture.is_empty();
    Ok(says_something.then_some(platform).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_told_as_they_are_spelled() {
        let what = format!(r#""size":1,"digest":"sha256:{}""#, "a".repeat(64));
        let index = format!(
            r#"{{"manifests":[{{{what},"platform":{{"architecture":"arm64","os":"linux","variant":"v8"}}}},
            {{{what},"platform":{{"architecture":"amd64","os":"windows","os.version":"10.0"}}}},{{{what}}}]}}"#
        );
        let platforms = of_index("sha256:ab", index.as_bytes()).unwrap();
        assert!(of_index("sha256:ab", br#"{"manifests":[{}]}"#).is_err());
        assert_eq!(platforms[0].variant, "v8");
        assert_eq!(platforms[1].os_version, "10.0");
        assert_eq!(platforms[2], RemotePlatform::default());
        assert!(matches!(of_index("sha256:ab", b"<html>"), Err(Error::BadContent(_))));
    }
}
