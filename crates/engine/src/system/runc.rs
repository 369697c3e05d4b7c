//! What runc can do, asked once; and what else is remembered of the neighbours.

use tokio::sync::OnceCell;

use super::components::{Programs, output};
use super::figures::Counted;
use super::ready::Files;
use crate::Engine;

/// The first kernel that changes all mounts below one at once (mount_setattr(2)).
const RECURSIVE_ATTRIBUTES: (u32, u32) = (5, 12);

/// What has been found out about the neighbours and does not change while they run.
#[derive(Debug, Default)]
pub struct Cache {
    programs: Programs,
    recursive_read_only: OnceCell<bool>,
    counted: Counted,
    files: Files,
}

impl Cache {
    /// What is counted along the way.
    pub(crate) fn counted(&self) -> &Counted {
        &self.counted
    }

    /// The look at the files that containers need.
    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// The versions of programs.
    pub(super) fn programs(&self) -> &Programs {
        &self.programs
    }
}

impl Engine {
    /// Whether mounts below a read-only mount can be made read-only too (moby `daemon/daemon_linux.go`,
    /// `supportsRecursivelyReadOnly`).
    pub(crate) async fn recursive_read_only(&self) -> bool {
        let cell = &self.system_cache().recursive_read_only;
        let known = cell
            .get_or_try_init(|| async {
                if self.host().kernel < RECURSIVE_ATTRIBUTES {
                    return Ok(false);
                }
                let (features, _) = output("runc", &["features"]).await.ok_or(())?;
                Ok::<_, ()>(mount_options(&features).iter().any(|option| option == "rro"))
            })
            .await;
        known.is_ok_and(|known| *known)
    }
}

/// The mount options of `runc features`, which is there from 1.1 on (OCI runtime-spec `features.md`).
fn mount_options(features: &str) -> Vec<String> {
    #[derive(Default, serde::Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Features {
        mount_options: Vec<String>,
    }
    serde_json::from_str::<Features>(features).unwrap_or_default().mount_options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runcs_features() {
        assert_eq!(
            mount_options(r#"{"ociVersionMin":"1.0.0","mountOptions":["ro","rro"]}"#),
            ["ro", "rro"]
        );
        assert!(mount_options("Incorrect Usage").is_empty());
    }
}
