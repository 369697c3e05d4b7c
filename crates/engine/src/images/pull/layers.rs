//! The layers of one image: downloaded a few at a time, unpacked in order while others still load.

use std::collections::HashSet;
use std::time::Duration;

use containerd::Labels;
use futures_util::future::try_join_all;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::Job;
use crate::images::PullStatus;
use crate::images::documents::{Config, Manifest};
use crate::images::fetch::Fetched;
use crate::images::progress::{Progress, Throttle};
use crate::images::unpack::{LayerStep, Unpacker, steps};
use crate::{Error, Result, fault};

/// One layer on its way.
struct Arriving<'a> {
    step: LayerStep<'a>,
    /// Twelve digits, as the client sees it.
    id: &'a str,
    /// Another layer of this image has the same blob and tells about it.
    repeated: bool,
    /// It was there at the start.
    present: bool,
}

pub(super) async fn fetch_and_unpack(
    job: &Job<'_>,
    manifest: &Manifest,
    config: &Config,
    unpack: bool,
) -> Result<()> {
    let steps = steps(&manifest.layers, &config.diff_ids, &config.chain_ids)?;
    let Some(top) = config.chain_ids.last() else { return Ok(()) };
    let unpacker = Unpacker::new(job.engine, job.lease);
    // What is not to be unpacked is as good as unpacked.
    let unpacked = !unpack || unpacker.is_unpacked(top).await?;
    let layers = look_around(job, steps).await?;
    let silent = unpacked && layers.iter().all(|layer| layer.present);
    if !silent {
        announce(job.progress, &layers).await;
    }
    let (arrived, arrivals): (Vec<_>, Vec<_>) = layers.iter().map(|_| oneshot::channel()).unzip();
    let tells = |layer: &Arriving<'_>| !(silent || layer.repeated || unpacked && layer.present);
    let unpack = async {
        for (layer, arrival) in layers.iter().zip(arrivals) {
            // The sender only goes away with an error, which ends this future too.
            let _ = arrival.await;
            if !unpacked {
                extract(job.progress, &unpacker, layer).await?;
            }
            if tells(layer) {
                job.progress.layer(layer.id, PullStatus::PullComplete).await;
            }
        }
        Ok(())
    };
    tokio::try_join!(download(job, &layers, arrived, silent), unpack).map(drop)
}

/// Which layers are there.
async fn look_around<'a>(job: &Job<'_>, steps: Vec<LayerStep<'a>>) -> Result<Vec<Arriving<'a>>> {
    let mut seen = HashSet::new();
    let mut layers = Vec::with_capacity(steps.len());
    for step in steps {
        let digest = step.layer.digest.as_str();
        let present = match job.engine.containerd().blob(digest).await {
            Ok(_) => true,
            Err(error) if error.is_not_found() => false,
            Err(error) => {
                return Err(job.engine.containerd_error(format!("look for layer {digest}"), error));
            }
        };
        let repeated = !seen.insert(digest);
        layers.push(Arriving { step, id: short(digest), repeated, present });
    }
    Ok(layers)
}

async fn announce(progress: &Progress, layers: &[Arriving<'_>]) {
    for layer in layers.iter().filter(|layer| !layer.repeated) {
        let status =
            if layer.present { PullStatus::AlreadyExists } else { PullStatus::PullingFsLayer };
        progress.layer(layer.id, status).await;
    }
}

async fn download(
    job: &Job<'_>,
    layers: &[Arriving<'_>],
    arrived: Vec<oneshot::Sender<()>>,
    silent: bool,
) -> Result<()> {
    let gate = Semaphore::new(job.engine.settings().transfer_limits.downloads.into());
    let downloads = layers.iter().zip(arrived).map(|(layer, arrived)| {
        let gate = &gate;
        async move {
            download_one(job, gate, layer, silent).await?;
            // Nobody listens when unpacking has failed.
            let _ = arrived.send(());
            Ok::<_, Error>(())
        }
    });
    try_join_all(downloads).await.map(drop)
}

async fn download_one(
    job: &Job<'_>,
    gate: &Semaphore,
    layer: &Arriving<'_>,
    silent: bool,
) -> Result<()> {
    let _place = match gate.try_acquire() {
        Ok(place) => Ok(place),
        Err(_) => {
            if !layer.present && !layer.repeated {
                job.progress.layer(layer.id, PullStatus::Waiting).await;
            }
            gate.acquire().await
        }
    };
    let counter = Counter::new(job.progress, layer);
    let fetched =
        job.fetcher.blob(layer.step.layer, Labels::new(), |bytes| counter.count(bytes)).await?;
    fault::reached("pull.layer");
    if silent || layer.repeated {
        return Ok(());
    }
    match (fetched, layer.present) {
        // It went away between our look and now, or came: tell what happened.
        (Fetched::Downloaded, _) => {
            job.progress.layer(layer.id, PullStatus::DownloadComplete).await;
        }
        (Fetched::Present, false) => job.progress.layer(layer.id, PullStatus::AlreadyExists).await,
        (Fetched::Present, true) => {}
    }
    Ok(())
}

/// Unpacks one layer and says every second how long it takes.
async fn extract(progress: &Progress, unpacker: &Unpacker<'_>, layer: &Arriving<'_>) -> Result<()> {
    let work = unpacker.layer(layer.step);
    tokio::pin!(work);
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut seconds = 0;
    loop {
        tokio::select! {
            outcome = &mut work => return outcome,
            _ = ticks.tick() => {
                seconds += 1;
                progress.count(layer.id, PullStatus::Extracting { seconds });
            }
        }
    }
}

/// Counts a layer's bytes, not more often than a person can see.
struct Counter<'a> {
    progress: &'a Progress,
    id: &'a str,
    total: u64,
    throttle: Throttle,
}

impl<'a> Counter<'a> {
    fn new(progress: &'a Progress, layer: &Arriving<'a>) -> Self {
        Self { progress, id: layer.id, total: layer.step.layer.size, throttle: Throttle::default() }
    }

    fn count(&self, current: u64) {
        if self.throttle.is_due() {
            self.progress.count(self.id, PullStatus::Downloading { current, total: self.total });
        }
    }
}

/// The twelve digits by which people know a digest.
pub(in crate::images) fn short(digest: &str) -> &str {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}
