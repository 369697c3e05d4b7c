//! Images mounted into a container: read-only views of their layers.
//!
//! A view is made under a lease, and from then on the container's record refers to it by a label that containerd's
//! garbage collector follows (`containerd.io/gc.ref.snapshot…`). So it lives exactly as long as the record, whoever
//! deletes that, and a creation that fails or crashes leaves nothing. Nothing is mounted on the host: the runtime puts
//! the layers together inside the container.

use containerd::Labels;

use crate::containers::mounts::{ImageSource, MountPlan};
use crate::images::claims::Claim;
use crate::images::lease::WorkLease;
use crate::oci::image_files;
use crate::waiting::blocking;
use crate::{Engine, Error, Result, random};

/// What containerd's garbage collector follows from a container to its snapshots (containerd `metadata/gc.go`).
const REFERENCE: &str = "containerd.io/gc.ref.snapshot";

/// The views of one new container, protected while this is held.
#[derive(Debug)]
pub(super) struct ImageViews {
    lease: WorkLease,
    /// The images stay, too, until it is seen that they are in use.
    claims: Vec<Claim>,
}

impl ImageViews {
    pub(super) async fn begin(engine: &Engine) -> Result<Self> {
        Ok(Self { lease: WorkLease::begin(engine, "view").await?, claims: Vec::new() })
    }

    /// A view of an image, or of one directory or file in it.
    pub(super) async fn add(
        &mut self,
        engine: &Engine,
        typed: &str,
        subpath: &str,
    ) -> Result<ImageSource> {
        let image = engine.image_for_create(typed, None).await?;
        self.claims.push(engine.claim_image(&image).await?);
        let snapshot = format!("nerdctld-image-{:032x}", u128::from_ne_bytes(random::bytes()?));
        let snapshotter = self.lease.client().snapshotter(&engine.settings().snapshotter);
        let doing = || format!("make a view of image {typed}");
        let mounts = snapshotter.view(&snapshot, &image.chain_id, Labels::new()).await;
        let mounts = mounts.map_err(|error| engine.containerd_error(doing(), error))?;
        let narrowed = {
            let subpath = subpath.to_owned();
            blocking(doing(), move || image_files::narrow(&mounts, &subpath)).await?
        };
        let mount = narrowed.map_err(|source| {
            if subpath.is_empty() || source.kind() == std::io::ErrorKind::Unsupported {
                return Error::failed(doing(), source);
            }
            Error::SubpathMissing { path: format!("{typed}/{subpath}"), source }
        })?;
        Ok(ImageSource {
            image: typed.to_owned(),
            id: image.id,
            snapshot,
            subpath: subpath.to_owned(),
            kind: mount.kind,
            from: mount.source,
            options: mount.options,
        })
    }

    /// The record refers to them now.
    pub(super) async fn release(self) {
        self.lease.finish().await;
    }
}

/// Labels by which a record keeps the views of its mounts, those of other containers that it has taken over too.
pub(super) fn references(plans: &[MountPlan], snapshotter: &str) -> Labels {
    let views = plans.iter().filter_map(MountPlan::image).enumerate();
    views
        .map(|(number, image)| {
            (format!("{REFERENCE}.{snapshotter}/image.{number}"), image.snapshot.clone())
        })
        .collect()
}
