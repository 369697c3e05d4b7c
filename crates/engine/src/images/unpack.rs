//! Layers into snapshots, one on the other.
//!
//! A committed snapshot is named by its chain id, so a layer that two images share with all below it
//! is unpacked once (containerd `core/unpack/unpacker.go`). containerd extracts and computes the
//! diffID; we compare it with the config's.

use std::time::{SystemTime, UNIX_EPOCH};

use containerd::{Client, Labels};

use super::Descriptor;
use super::lease::WorkLease;
use super::resolve::Runnable;
use crate::{Engine, Error, Result, fault, random};

/// Layers of one image: no more can be mounted on each other (Linux `fs/overlayfs/params.c`).
pub(crate) const MAX_LAYERS: usize = 500;
/// Names tried for a layer that appears and vanishes under our hands.
const TRIES: u32 = 3;
/// Label of a snapshot being made: which layer it will be. The snapshotter knows by it that somebody was faster.
const REF: &str = "containerd.io/snapshot.ref";
/// Annotations and labels below this reach the snapshotter.
const SNAPSHOT_PREFIX: &str = "containerd.io/snapshot/";
/// Label of a layer blob: its diffID.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";

/// One layer to unpack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerStep<'a> {
    /// The blob.
    pub(crate) layer: &'a Descriptor,
    /// What it must be when unpacked.
    pub(crate) diff_id: &'a str,
    /// Chain id of what is below; empty at the bottom.
    pub(crate) parent: &'a str,
    /// Chain id of the result.
    pub(crate) chain_id: &'a str,
}

/// The label of a config that keeps the image's top layer alive.
pub(crate) fn snapshot_label(snapshotter: &str) -> String {
    format!("containerd.io/gc.ref.snapshot.{snapshotter}")
}

/// Unpacks into one snapshotter, under a lease.
#[derive(Debug)]
pub(crate) struct Unpacker<'a> {
    engine: &'a Engine,
    lease: &'a WorkLease,
}

impl<'a> Unpacker<'a> {
    pub(crate) fn new(engine: &'a Engine, lease: &'a WorkLease) -> Self {
        Self { engine, lease }
    }

    /// Whether the chain is there; from now on it is under the lease.
    pub(crate) async fn is_unpacked(&self, chain_id: &str) -> Result<bool> {
        if !self.is_there(chain_id).await? {
            return Ok(false);
        }
        let snapshotter = &self.engine.settings().snapshotter;
        let held = self.lease.hold_snapshot(snapshotter, chain_id).await;
        held.map_err(|error| self.failed("protect", chain_id, error))?;
        // It may have been collected between the two calls.
        self.is_there(chain_id).await
    }

    async fn is_there(&self, chain_id: &str) -> Result<bool> {
        match self.client().snapshotter(&self.engine.settings().snapshotter).stat(chain_id).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(self.failed("look for", chain_id, error)),
        }
    }

    /// Unpacks one layer on what is below it, unless that was done before.
    pub(crate) async fn layer(&self, step: LayerStep<'_>) -> Result<()> {
        let turn_name =
            format!("snapshot {} {}", self.engine.settings().snapshotter, step.chain_id);
        let _turn = self.engine.image_cache().turns().take(&turn_name).await;
        let snapshots = self.client().snapshotter(&self.engine.settings().snapshotter);
        for _ in 0..TRIES {
            let key = extract_key(step.chain_id)?;
            let mounts = match snapshots.prepare(&key, step.parent, snapshot_labels(step)).await {
                Ok(mounts) => mounts,
                Err(error) if error.is_already_exists() => {
                    if self.is_unpacked(step.chain_id).await? {
                        return Ok(());
                    }
                    continue;
                }
                Err(error) => return Err(self.failed("prepare", step.chain_id, error)),
            };
            fault::reached("unpack.prepared");
            let outcome = self.extract(step, &key, mounts).await;
            if outcome.is_err() {
                // The lease would take it away too, but not before the error is told.
                let _ = snapshots.remove(&key).await;
                self.lease.unpacking_failed();
            }
            return outcome;
        }
        Err(Error::BadContent(format!(
            "layer {} appears and vanishes while it is unpacked",
            step.chain_id
        )))
    }

    async fn extract(
        &self,
        step: LayerStep<'_>,
        key: &str,
        mounts: Vec<containerd::Mount>,
    ) -> Result<()> {
        let snapshots = self.client().snapshotter(&self.engine.settings().snapshotter);
        let applied = self.client().apply_diff(step.layer.clone().into(), mounts).await;
        let applied = applied.map_err(|error| {
            self.engine
                .containerd_error(format!("failed to extract layer {}", step.layer.digest), error)
        })?;
        fault::reached("unpack.applied");
        if applied.digest != step.diff_id {
            // containerd core/unpack/unpacker.go
            let problem = format!(
                "wrong diff id {:?} calculated on extraction, expected {:?}",
                applied.digest, step.diff_id
            );
            return Err(Error::BadContent(problem));
        }
        match snapshots.commit(step.chain_id, key, snapshot_labels(step)).await {
            Ok(()) => {}
            Err(error) if error.is_already_exists() => {
                let _ = snapshots.remove(key).await;
            }
            Err(error) => return Err(self.failed("commit", step.chain_id, error)),
        }
        fault::reached("unpack.committed");
        let label = (UNCOMPRESSED.to_owned(), Some(step.diff_id.to_owned()));
        let labelled =
            self.engine.containerd().update_blob_labels(&step.layer.digest, [label].into()).await;
        labelled.map(drop).map_err(|error| self.failed("label", &step.layer.digest, error))
    }

    fn client(&self) -> &Client {
        self.lease.client()
    }

    fn failed(&self, verb: &str, layer: &str, error: containerd::Error) -> Error {
        self.engine.containerd_error(format!("{verb} layer {layer}"), error)
    }
}

impl Engine {
    /// Makes sure that an image whose content is there is unpacked. Nothing happens if it is.
    pub(crate) async fn ensure_unpacked(&self, image: &Runnable) -> Result<()> {
        let Some(top) = image.config.chain_ids.last() else { return Ok(()) };
        let snapshots = self.containerd().snapshotter(&self.settings().snapshotter);
        match snapshots.stat(top).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(self.containerd_error(format!("look for layer {top}"), error)),
        }
        let lease = WorkLease::begin(self, "unpack").await?;
        match self.unpack_all(&lease, image, top).await {
            Ok(()) => {
                lease.finish().await;
                self.image_cache().changed();
                Ok(())
            }
            Err(error) => {
                lease.abandon().await;
                Err(error)
            }
        }
    }

    /// Unpacks all layers of an image, and lets its config keep them.
    pub(super) async fn unpack_all(
        &self,
        lease: &WorkLease,
        image: &Runnable,
        top: &str,
    ) -> Result<()> {
        let unpacker = Unpacker::new(self, lease);
        for step in steps(&image.manifest.layers, &image.config.diff_ids, &image.config.chain_ids)?
        {
            unpacker.layer(step).await?;
        }
        let label = (snapshot_label(&self.settings().snapshotter), Some(top.to_owned()));
        let config = &image.manifest.config.digest;
        let labelled = self.containerd().update_blob_labels(config, [label].into()).await;
        labelled.map(drop).map_err(|error| self.containerd_error("label the image's config", error))
    }
}

/// The layers with what they must become; they must be as many as the config says.
pub(crate) fn steps<'a>(
    layers: &'a [Descriptor],
    diff_ids: &'a [String],
    chain_ids: &'a [String],
) -> Result<Vec<LayerStep<'a>>> {
    if layers.len() != diff_ids.len() {
        let problem = format!(
            "the manifest has {} layers, the config {} diffIDs",
            layers.len(),
            diff_ids.len()
        );
        return Err(Error::BadContent(problem));
    }
    if layers.len() > MAX_LAYERS {
        let problem = format!("the image has {} layers, at most {MAX_LAYERS} work", layers.len());
        return Err(Error::BadContent(problem));
    }
    let parents = std::iter::once("").chain(chain_ids.iter().map(String::as_str));
    let steps = layers.iter().zip(diff_ids).zip(chain_ids).zip(parents);
    Ok(steps
        .map(|(((layer, diff_id), chain_id), parent)| LayerStep {
            layer,
            diff_id,
            parent,
            chain_id,
        })
        .collect())
}

/// The name of a snapshot in the making, as containerd's own client forms it.
fn extract_key(chain_id: &str) -> Result<String> {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    let random = u32::from_ne_bytes(random::bytes()?);
    Ok(format!("extract-{nanos}-{random:08x} {chain_id}"))
}

fn snapshot_labels(step: LayerStep<'_>) -> Labels {
    let inherited =
        step.layer.annotations.iter().filter(|(key, _)| key.starts_with(SNAPSHOT_PREFIX));
    let mut labels: Labels = inherited.map(|(key, value)| (key.clone(), value.clone())).collect();
    labels.insert(REF.to_owned(), step.chain_id.to_owned());
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::documents::chain_ids;

    #[test]
    fn each_layer_stands_on_the_one_below() {
        let layers: Vec<Descriptor> = ["l0", "l1"]
            .map(|digest| Descriptor { digest: digest.to_owned(), ..Descriptor::default() })
            .into();
        let diff_ids = ["d0".to_owned(), "d1".to_owned()];
        let chain = chain_ids(&diff_ids);
        let steps = steps(&layers, &diff_ids, &chain).unwrap();
        assert_eq!((steps[0].parent, steps[0].chain_id), ("", "d0"));
        assert_eq!((steps[1].parent, steps[1].diff_id), ("d0", "d1"));
        assert_eq!(steps[1].chain_id, chain[1]);
    }

    #[test]
    fn layers_and_diff_ids_must_be_as_many() {
        assert!(matches!(steps(&[Descriptor::default()], &[], &[]), Err(Error::BadContent(_))));
        let (layers, ids) = (vec![Descriptor::default(); 501], vec![String::new(); 501]);
        assert!(matches!(steps(&layers, &ids, &ids), Err(Error::BadContent(_))));
    }
}
