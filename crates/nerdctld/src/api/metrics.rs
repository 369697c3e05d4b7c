//! `GET /metrics` on `--metrics-addr`: what a Prometheus reads, under the names that dashboards for dockerd know (moby
//! `daemon/metrics.go`, `daemon/internal/metrics`).
//!
//! Everything comes out of memory and `/proc`: neither containerd nor a container is asked, so a page is there however
//! busy or stuck they are. What dockerd measures in its own process and we in others (actions on networks, by the hook
//! of the container) is not there.

mod process;
mod text;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engine::system::Figures;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};

use super::call::{Answer, Call};
use super::reply::Reply;
use super::system::ENGINE_VERSION;
use text::{Kind, Page};

/// The text format's content type (Prometheus, "Exposition formats").
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Upper bounds of the histograms, in seconds; Prometheus' defaults, as in dockerd.
const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What is done to containers and takes a time that people look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Action {
    /// Which files differ from the image.
    Changes,
    /// An image is made of one.
    Commit,
    /// It is made.
    Create,
    /// It is removed.
    Delete,
    /// It is started.
    Start,
}

impl Action {
    const ALL: [Self; 5] = [Self::Changes, Self::Commit, Self::Create, Self::Delete, Self::Start];

    fn name(self) -> &'static str {
        match self {
            Self::Changes => "changes",
            Self::Commit => "commit",
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Start => "start",
        }
    }
}

/// What the edge measures itself.
#[derive(Debug, Default)]
pub(in crate::api) struct Metrics {
    actions: [Histogram; Action::ALL.len()],
}

impl Metrics {
    /// An action has succeeded after so long.
    pub(in crate::api) fn observe(&self, action: Action, took: Duration) {
        self.actions[action as usize].observe(took);
    }
}

/// How often something took how long.
#[derive(Debug, Default)]
struct Histogram {
    /// Not cumulative; the last one is for what is longer than every bound.
    counts: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn write(&self, page: &mut Page, name: &str, label: (&str, &str)) {
        let mut so_far = 0;
        let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (count, bound) in self.counts.iter().zip(bounds) {
            so_far += count.load(Ordering::Relaxed);
            page.value(&format!("{name}_bucket"), &[label, ("le", &bound)], so_far);
        }
        let seconds = Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64();
        page.value(&format!("{name}_sum"), &[label], seconds);
        page.value(&format!("{name}_count"), &[label], so_far);
    }
}

/// `GET /metrics`.
pub(super) async fn metrics(call: Call) -> Answer {
    let mut page = Page::default();
    write_engine(&mut page, &call.engine.figures(), &call.metrics);
    process::write(&mut page);
    Ok(Reply::text(StatusCode::OK, page.into_text()).with(CONTENT_TYPE, TEXT))
}

fn write_engine(page: &mut Page, figures: &Figures, metrics: &Metrics) {
    let name = "engine_daemon_container_actions_seconds";
    let help = "The number of seconds it takes to process each container action";
    page.family(name, Kind::Histogram, help);
    for action in Action::ALL {
        metrics.actions[action as usize].write(page, name, ("action", action.name()));
    }

    let name = "engine_daemon_container_states_containers";
    page.family(name, Kind::Gauge, "The count of containers in various states");
    for (state, count) in
        [("paused", figures.paused), ("running", figures.running), ("stopped", figures.stopped)]
    {
        page.value(name, &[("state", state)], count);
    }

    let host = &figures.host;
    let one = |page: &mut Page, name: &str, kind, help: &str, value: u64| {
        page.family(name, kind, help);
        page.value(name, &[], value);
    };
    let help = "The number of cpus that the host system of the engine has";
    one(page, "engine_daemon_engine_cpus_cpus", Kind::Gauge, help, host.cpus);
    let name = "engine_daemon_engine_info";
    let help = "The information related to the engine and the OS it is running on";
    page.family(name, Kind::Gauge, help);
    let labels = [
        ("architecture", host.machine.as_str()),
        ("commit", ""),
        ("daemon_id", &figures.id),
        ("graphdriver", &figures.snapshotter),
        ("kernel", &host.kernel),
        ("os", &host.operating_system),
        ("os_type", "linux"),
        ("os_version", &host.os_version),
        ("version", ENGINE_VERSION),
    ];
    page.value(name, &labels, 1);
    let help = "The number of bytes of memory that the host system of the engine has";
    one(page, "engine_daemon_engine_memory_bytes", Kind::Gauge, help, host.memory);
    let help = "The number of current subscribers to events";
    one(page, "engine_daemon_events_subscribers_total", Kind::Gauge, help, figures.subscribers);
    let help = "The number of events logged";
    one(page, "engine_daemon_events_total", Kind::Counter, help, figures.events);
    let help = "The total number of failed health checks";
    let failed = figures.failed_health_checks;
    one(page, "engine_daemon_health_checks_failed_total", Kind::Counter, help, failed);
    let help = "The total number of health checks";
    one(page, "engine_daemon_health_checks_total", Kind::Counter, help, figures.health_checks);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let histogram = Histogram::default();
        for millis in [1, 5, 6, 300, 60_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut page = Page::default();
        histogram.write(&mut page, "x", ("action", "a"));
        let text = page.into_text();
        for line in [
            r#"x_bucket{action="a",le="0.005"} 2"#,
            r#"x_bucket{action="a",le="0.01"} 3"#,
            r#"x_bucket{action="a",le="0.25"} 3"#,
            r#"x_bucket{action="a",le="1"} 4"#,
            r#"x_bucket{action="a",le="10"} 4"#,
            r#"x_bucket{action="a",le="+Inf"} 5"#,
            r#"x_sum{action="a"} 60.312"#,
            r#"x_count{action="a"} 5"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn actions_have_their_own_place() {
        for (at, action) in Action::ALL.into_iter().enumerate() {
            assert_eq!(action as usize, at);
        }
    }
}
