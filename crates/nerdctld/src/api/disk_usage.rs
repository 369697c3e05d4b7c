//! `GET /system/df`.

use std::sync::Arc;

use docker_wire::containers::ContainerSummary;
use docker_wire::images::ImageSummary;
use docker_wire::system::{DiskUsage, DiskUsageTotals, LegacyDiskUsage};
use docker_wire::volumes::{Volume, VolumeUsageData};
use engine::system::disk_usage::{ContainerUsage, ImageUsage, VolumeUsage};
use jiff::Timestamp;

use super::call::{Answer, Call};
use super::compat::{requests, responses};
use super::error::Refusal;
use super::reply::Reply;
use super::{containers, images, volumes};

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kinds {
    containers: bool,
    images: bool,
    volumes: bool,
    build_cache: bool,
}

/// `GET /system/df`. Builds keep no cache here, so that is always empty.
pub(in crate::api) async fn usage(call: Call) -> Answer {
    let kinds = kinds(requests::disk_usage_types(call.version, &call.query))?;
    let engine = &call.engine;
    let (images, containers, volumes) = tokio::try_join!(
        asked(kinds.images, engine.image_usage()),
        asked(kinds.containers, engine.container_usage()),
        asked(kinds.volumes, engine.volume_usage()),
    )?;
    let usage = DiskUsage {
        legacy: Some(LegacyDiskUsage::default()),
        image_usage: images.as_deref().map(image_totals),
        container_usage: containers.as_deref().map(|found| container_totals(found)),
        volume_usage: volumes.as_deref().map(|found| volume_totals(found)),
        build_cache_usage: kinds.build_cache.then(DiskUsageTotals::default),
    };
    let verbose = call.query.flag("verbose");
    Ok(Reply::json(&responses::disk_usage(call.version, usage, verbose)))
}

/// All kinds if none is named.
fn kinds(types: Option<Vec<&str>>) -> Result<Kinds, Refusal> {
    let Some(types) = types else {
        return Ok(Kinds { containers: true, images: true, volumes: true, build_cache: true });
    };
    let mut kinds = Kinds::default();
    for kind in types {
        match kind {
            "container" => kinds.containers = true,
            "image" => kinds.images = true,
            "volume" => kinds.volumes = true,
            "build-cache" => kinds.build_cache = true,
            other => {
                return Err(Refusal::BadParameter(format!("unknown object type: {other}")));
            }
        }
    }
    Ok(kinds)
}

async fn asked<T>(
    wanted: bool,
    look: impl Future<Output = engine::Result<Arc<T>>>,
) -> engine::Result<Option<Arc<T>>> {
    if wanted { look.await.map(Some) } else { Ok(None) }
}

/// moby `daemon/disk_usage.go`; so for the others.
fn image_totals(usage: &ImageUsage) -> DiskUsageTotals<ImageSummary> {
    let unused = usage.images.iter().filter(|image| image.containers == 0);
    let own = |size: u64, shared: Option<u64>| size.saturating_sub(shared.unwrap_or(0));
    DiskUsageTotals {
        active_count: count(usage.images.iter().filter(|image| image.containers > 0).count()),
        total_count: count(usage.images.len()),
        total_size: number(usage.total),
        reclaimable: number(sum(unused.map(|image| own(image.size, image.shared_size)))),
        items: usage.images.iter().cloned().map(images::view::summary).collect(),
    }
}

fn container_totals(usage: &[ContainerUsage]) -> DiskUsageTotals<ContainerSummary> {
    let now = Timestamp::now();
    let is_active =
        |usage: &&ContainerUsage| usage.listed.container.state.phase.counts_as_running();
    let idle = usage.iter().filter(|usage| !is_active(usage));
    let item = |usage: &ContainerUsage| ContainerSummary {
        size_rw: number(usage.read_write),
        size_root_fs: number(usage.root_fs),
        image_manifest_descriptor: None,
        ..containers::view::summary(&usage.listed, now)
    };
    DiskUsageTotals {
        active_count: count(usage.iter().filter(is_active).count()),
        total_count: count(usage.len()),
        total_size: number(sum(usage.iter().map(|usage| usage.read_write))),
        reclaimable: number(sum(idle.map(|usage| usage.read_write))),
        items: usage.iter().map(item).collect(),
    }
}

fn volume_totals(usage: &[VolumeUsage]) -> DiskUsageTotals<Volume> {
    let idle = usage.iter().filter(|usage| usage.containers == 0);
    let item = |usage: &VolumeUsage| Volume {
        usage_data: Some(VolumeUsageData {
            ref_count: number(usage.containers),
            size: number(usage.size),
        }),
        ..volumes::view(usage.volume.clone())
    };
    DiskUsageTotals {
        active_count: count(usage.iter().filter(|usage| usage.containers > 0).count()),
        total_count: count(usage.len()),
        total_size: number(sum(usage.iter().map(|usage| usage.size))),
        reclaimable: number(sum(idle.map(|usage| usage.size))),
        items: usage.iter().map(item).collect(),
    }
}

fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

fn number(given: u64) -> i64 {
    i64::try_from(given).unwrap_or(i64::MAX)
}

fn count(given: usize) -> i64 {
    i64::try_from(given).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_alone_or_all() {
        assert_eq!(
            kinds(None).unwrap(),
            Kinds { containers: true, images: true, volumes: true, build_cache: true }
        );
        assert_eq!(
            kinds(Some(vec!["image", "build-cache"])).unwrap(),
            Kinds { images: true, build_cache: true, ..Kinds::default() }
        );
        assert_eq!(kinds(Some(vec!["x"])).unwrap_err().to_string(), "unknown object type: x");
    }
}
