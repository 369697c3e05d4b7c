//! An OCI layout (OCI image-spec `image-layout.md`): `index.json` names the images.

use names::ImageRef;
use serde::Deserialize;

use super::intake::Stored;
use super::{Target, bad};
use crate::images::Descriptor;
use crate::images::documents::Index;
use crate::{Error, Result};

/// The only version there is.
const VERSION: &str = "1.0.0";
/// Full reference of an image (containerd `core/images/annotations.go`).
const IMAGE_NAME: &str = "io.containerd.image.name";
/// Its tag, or with some programs its full reference (OCI image-spec `annotations.md`).
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Marks what is said about an image and is none itself.
const SUBJECT: &str = "io.containerd.manifest.subject";

#[derive(Deserialize)]
struct Layout {
    #[serde(default, rename = "imageLayoutVersion")]
    version: String,
}

/// The images that the index names, each name once.
pub(super) fn targets(stored: &Stored) -> Result<Vec<Target>> {
    let layout = stored.layout.as_deref().unwrap_or_default();
    let layout: Layout = serde_json::from_slice(layout)
        .map_err(|error| bad(format!("untar oci layout \"oci-layout\": {error}")))?;
    if layout.version != VERSION {
        return Err(bad(format!("unsupported OCI version {}", layout.version)));
    }
    let Some(index) = &stored.index else {
        return Err(bad(format!("missing index.json in OCI layout {VERSION}")));
    };
    let index = Index::parse("index.json", index)?;
    let images = index.manifests.into_iter().filter(|entry| {
        let is_image = !entry.annotations.contains_key(SUBJECT);
        if !is_image {
            tracing::info!(digest = entry.digest, "what is said about an image is not loaded");
        }
        is_image
    });
    images.map(|descriptor| Ok(Target { name: name_of(&descriptor)?, descriptor })).collect()
}

/// The name that an entry brings. A tag alone is none: it does not say of what.
fn name_of(entry: &Descriptor) -> Result<Option<ImageRef>> {
    let tag = entry.annotations.get(REF_NAME).filter(|name| name.contains(['/', ':']));
    match entry.annotations.get(IMAGE_NAME).or(tag).filter(|name| !name.is_empty()) {
        Some(name) => parsed(name).map(Some),
        None => Ok(None),
    }
}

/// A full reference, with a tag or digest.
pub(super) fn parsed(name: &str) -> Result<ImageRef> {
    let reference: ImageRef = name.parse().map_err(|error| {
        Error::InvalidReference(format!("normalize image ref {name:?}: {error}"))
    })?;
    Ok(reference.with_default_tag())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(annotations: &[(&str, &str)]) -> Option<String> {
        let annotations = annotations.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        let entry = Descriptor { annotations: annotations.collect(), ..Descriptor::default() };
        name_of(&entry).unwrap().map(|name| name.to_string())
    }

    #[test]
    fn names_of_several_programs() {
        let full = "docker.io/library/a:1";
        assert_eq!(named(&[(IMAGE_NAME, full), (REF_NAME, "1")]).as_deref(), Some(full));
        assert_eq!(named(&[(REF_NAME, full)]).as_deref(), Some(full));
        assert_eq!(named(&[(IMAGE_NAME, "a")]).as_deref(), Some("docker.io/library/a:latest"));
        assert_eq!(named(&[(REF_NAME, "1")]), None);
        assert_eq!(named(&[]), None);
    }

    #[test]
    fn layouts_that_are_none() {
        let layout = |text: &str, index: Option<&str>| {
            let stored = Stored {
                layout: Some(text.into()),
                index: index.map(Into::into),
                ..Stored::default()
            };
            targets(&stored).map(|targets| targets.len()).map_err(|error| error.to_string())
        };
        let good = r#"{"imageLayoutVersion":"1.0.0"}"#;
        assert_eq!(layout(good, Some(r#"{"manifests":null}"#)), Ok(0));
        assert!(layout("{}", Some("{}")).unwrap_err().starts_with("unsupported OCI version"));
        assert!(layout(good, None).unwrap_err().starts_with("missing index.json"));
        assert!(layout("<", None).unwrap_err().starts_with("untar oci layout"));
        assert!(layout(good, Some("<")).unwrap_err().starts_with("invalid index"));
    }
}
