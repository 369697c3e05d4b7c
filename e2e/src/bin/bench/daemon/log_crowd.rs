//! Many containers that write at the same time: what the daemon and its monitors work for it, and that no line is lost.

use std::time::{Duration, Instant};

use e2e::api::script_body;
use e2e::{Container, Context as _, Result, ensure};
use serde_json::json;

use super::{Daemon, HANDS};
use crate::crowd::at_once;
use crate::rows::LINES_PER_SECOND;
use crate::side::Probe;

/// How long is looked.
const LOOK: Duration = Duration::from_secs(5);

/// Of a daemon that was started here; of others the processes are not known.
pub(super) fn probe(daemon: &Daemon, count: usize) -> Option<Probe<'_>> {
    daemon.ground.as_ref()?;
    Some(Box::new(move || Ok(vec![measure(daemon, count)?])))
}

fn measure(daemon: &Daemon, count: usize) -> Result<f64> {
    let lines = LINES_PER_SECOND * seconds(count);
    let containers: Vec<Container> =
        (0..count).map(|_| daemon.api.create(writer(lines))).collect::<Result<_>>()?;
    at_once(containers.chunks(count.div_ceil(HANDS)), |some| {
        some.iter().try_for_each(Container::start)?;
        Ok(Vec::new())
    })?;
    let (began, before) = (Instant::now(), processor_time(daemon)?);
    std::thread::sleep(LOOK);
    let (took, after) = (began.elapsed(), processor_time(daemon)?);
    for container in &containers {
        let status = container.status()?;
        ensure!(status == "running", "one was {status} before all were looked at");
    }
    for container in &containers {
        container.wait()?;
        check(container, lines)?;
    }
    Ok((after - before) * 1e3 / took.as_secs_f64())
}

/// How long each writes: the start of all must fit in, and the look at them.
fn seconds(count: usize) -> u32 {
    u32::try_from(count / 3).unwrap_or(u32::MAX).saturating_add(10)
}

fn writer(lines: u32) -> serde_json::Value {
    let half = LINES_PER_SECOND / 2;
    let mut body = script_body(&format!(
        "i=1; while [ $i -le {lines} ]; do seq $i $((i+{half}-1)); i=$((i+{half})); sleep 0.5; done"
    ));
    body["HostConfig"] = json!({"NetworkMode": "none"});
    body
}

fn check(container: &Container, lines: u32) -> Result<()> {
    let text = container.logs("")?.text();
    let expected = 1..=lines;
    ensure!(
        text.lines().map(str::parse).eq(expected.clone().map(Ok)),
        "{} lines of {} in the log",
        text.lines().count(),
        expected.count()
    );
    Ok(())
}

/// Seconds that the daemon and its monitors have worked so far.
fn processor_time(daemon: &Daemon) -> Result<f64> {
    let ground = daemon.ground.as_ref().context("a given daemon")?;
    let own = daemon.process().as_mut().context("the daemon does not run")?.pid()?;
    let all = ground.sandbox()?.processes();
    let monitors = all
        .iter()
        .filter(|process| process.arguments.iter().any(|word| word == "io-monitor"))
        .map(|process| process.pid);
    let of_monitors = monitors.map(|pid| worked(&format!("/proc/{pid}/schedstat"))).sum();
    let own = ticks_of(own).context("the daemon does not run")?;
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let own = own as f64 / rustix::param::clock_ticks_per_second() as f64;
    Ok(Duration::from_nanos(of_monitors).as_secs_f64() + own)
}

/// Nanoseconds that a thread was on a processor (Linux' `Documentation/scheduler/sched-stats.rst`): a monitor is one thread,
/// and what it works in some seconds is less than a tick.
fn worked(schedstat: &str) -> u64 {
    let text = std::fs::read_to_string(schedstat).unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default()
}

/// User and system time of a process, with the threads that have ended (proc(5), `stat`).
fn ticks_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_works() {
        let own = "/proc/thread-self/schedstat";
        let (began, before) = (Instant::now(), worked(own));
        // Times are brought up to date when a thread leaves its processor.
        while ticks_of(std::process::id()) < Some(1) || worked(own) <= before {
            std::thread::yield_now();
            assert!(began.elapsed() < Duration::from_secs(20));
        }
        assert_eq!(ticks_of(u32::MAX), None);
        assert_eq!(worked("/proc/none"), 0);
    }
}
