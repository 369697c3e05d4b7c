//! The rows of the table, as data: what is measured, with how many containers there, and how often.

use std::time::Duration;

use crate::memory::Kind;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Less is better.
    Milliseconds,
    /// Less is better.
    Mebibytes,
    /// Millions of bytes a second; more is better.
    MegabytesPerSecond,
    /// Milliseconds of processor time a second; less is better.
    Processor,
}

impl Unit {
    /// As it stands behind a row's name.
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Mebibytes => "MiB",
            Self::MegabytesPerSecond => "MB/s",
            Self::Processor => "ms/s",
        }
    }
}

/// What is asked until there is an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// `_ping`.
    Ping,
    /// The list of all containers.
    List,
}

/// The network of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// Only a loopback.
    None,
    /// The default bridge.
    Bridge,
}

/// Which half of an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CniCommand {
    /// Attach.
    Add,
    /// Detach.
    Del,
}

/// What is asked of a running container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Stats, one sample.
    Stats,
    /// `top`.
    Top,
}

/// One thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// From the start of the process, its containerd running, to the first answer.
    Start(Answer),
    /// The daemon's memory now, or after a list.
    Memory {
        /// Which memory.
        kind: Kind,
        /// Whether a list of all containers comes first.
        after_list: bool,
    },
    /// The memory that each running container adds beside the daemon.
    MemoryBeside(Helpers),
    /// The list of all containers.
    List(Clients),
    /// The description of one container.
    Inspect(Clients),
    /// The list while one container's shim is stopped.
    ListHung,
    /// The description of the container whose shim is stopped.
    InspectHung,
    /// What a running container uses, or its processes.
    Look(Look),
    /// Create alone; what it made is removed where nobody measures.
    Create,
    /// The list of images while a few of them have this many names together.
    ImageList(usize),
    /// Create, start, wait, remove of `true`.
    Life {
        /// Its network.
        network: Network,
        /// How many at once.
        at_once: usize,
    },
    /// Create, start attached to its end, and inspect an exec of `true` in a running container.
    Exec {
        /// How many at once.
        at_once: usize,
    },
    /// From start to end of a container that writes this many bytes in lines of [`LINE`].
    LogWrite(usize),
    /// The log of such a container, read to its end, or for as long as [`READING`].
    LogRead(usize),
    /// A tree of files of this many bytes out of a running container, or into it.
    Copy(CopyWay, usize),
    /// A large image from a registry, or to one.
    Transfer(TransferWay, Figure, usize),
    /// Processor time of the daemon and its helpers while so many containers write [`LINES_PER_SECOND`] each.
    LogCrowd(usize),
    /// The CNI plugins of the default bridge alone.
    Cni(CniCommand),
}

/// Processes that containers have beside their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Helpers {
    /// Shims and all else.
    All,
    /// The processes that own output.
    Monitors,
}

/// Which way files are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CopyWay {
    /// `GET archive`.
    Out,
    /// `PUT archive`.
    In,
    /// `GET export`, the image's files included.
    Export,
}

/// Which way an image goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransferWay {
    /// `POST /images/create`, unpacked.
    Pull,
    /// `POST /images/{name}/push`, to a repository that has nothing of it.
    Push,
    /// `GET /images/get`.
    Save,
    /// `POST /images/load`, unpacked.
    Load,
}

/// What is looked at during a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    /// Bytes a second.
    Speed,
    /// The most memory that the daemon had meanwhile.
    Peak,
}

/// How many ask at the same time, and how often each in one repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clients {
    /// Connections, each with a thread of its own.
    pub(crate) count: usize,
    /// Requests of each, one after the other; fewer where they are slow.
    pub(crate) requests: usize,
}

impl Clients {
    /// One client.
    pub(crate) const ALONE: Self = Self { count: 1, requests: 10 };
    /// A crowd of clients.
    pub(crate) const CROWD: Self = Self { count: 32, requests: 4 };
}

/// What each container of a crowd writes.
pub(crate) const LINES_PER_SECOND: u32 = 1000;

/// Length of a line of log, its end included.
pub(crate) const LINE: usize = 100;

/// A log that takes longer to read tells its speed by what was read until then.
pub(crate) const READING: Duration = Duration::from_secs(12);

/// How often something is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Repeat {
    /// Repetitions before those that count.
    pub(crate) warm_up: usize,
    /// At least this many, however long they take.
    pub(crate) least: usize,
    /// At most this many.
    pub(crate) most: usize,
    /// No further one after this time, for each daemon.
    pub(crate) budget: Duration,
    /// Before each: what the side before has set going (a start goes on after its first answer, memory is collected
    /// after a list) shall not count against the next.
    pub(crate) rest: Duration,
}

/// One row.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// What filters look at.
    pub(crate) name: String,
    /// What it is, in a few words.
    pub(crate) what: String,
    /// What its numbers count.
    pub(crate) unit: Unit,
    /// What is measured.
    pub(crate) measure: Measure,
    /// How many created containers there must be.
    pub(crate) containers: usize,
    /// How often.
    pub(crate) repeat: Repeat,
}

/// Row by row, in an order in which the number of containers only grows.
pub(crate) fn all(quick: bool) -> Vec<Row> {
    let repeats = Repeats { quick };
    let sizes: &[usize] = if quick { &[10, 100] } else { &[10, 100, 1000] };
    let mut rows = idle(repeats);
    rows.extend(lives(repeats));
    rows.extend(looks(repeats));
    rows.extend(execs(repeats));
    rows.extend(logs(repeats));
    rows.extend(beside());
    rows.extend(copies(repeats, if quick { 64_000_000 } else { 1_000_000_000 }));
    rows.extend(transfers(repeats, if quick { 60_000_000 } else { 300_000_000 }));
    // Beside `memory.idle` they show what the rows since then have left.
    rows.extend(memory("memory.flow", "after logs, trees and images", false, 0));
    rows.extend(sizes.iter().map(|&names| image_list(repeats, names)));
    for &size in sizes {
        rows.extend(reads(repeats, size, Clients::ALONE));
        if size == 100 {
            rows.extend(hung(repeats, size));
        }
        if sizes.last() == Some(&size) {
            rows.extend(loaded(repeats, size));
        }
        // Last, because a crowd that lists a thousand keeps a slow daemon busy for most of a minute.
        rows.extend(reads(repeats, size, Clients::CROWD));
    }
    rows
}

/// Repetitions by the kind of thing.
#[derive(Debug, Clone, Copy)]
struct Repeats {
    quick: bool,
}

impl Repeats {
    /// What takes a moment: many.
    fn requests(self) -> Repeat {
        let (most, budget) = if self.quick { (30, 300) } else { (100, 1000) };
        let [budget, rest] = [budget, 10].map(Duration::from_millis);
        Repeat { warm_up: 1, least: 2, most, budget, rest }
    }

    /// What starts processes.
    fn runs(self) -> Repeat {
        let (least, budget) = if self.quick { (1, 700) } else { (2, 3000) };
        let [budget, rest] = [budget, 50].map(Duration::from_millis);
        Repeat { warm_up: 1, least, most: 20, budget, rest }
    }

    /// What takes a second or more.
    fn long(self) -> Repeat {
        let (least, budget) = if self.quick { (1, 700) } else { (2, 3000) };
        let [budget, rest] = [budget, 300].map(Duration::from_millis);
        Repeat { warm_up: 0, least, most: 3, budget, rest }
    }

    /// What takes many seconds.
    fn single(self) -> Repeat {
        Repeat { least: 1, most: 1, ..self.long() }
    }

    /// What is just read.
    fn once() -> Repeat {
        Repeat { warm_up: 0, least: 1, most: 1, budget: Duration::ZERO, rest: Duration::ZERO }
    }
}

fn idle(repeats: Repeats) -> Vec<Row> {
    let mut rows = memory("memory.idle", "idle", false, 0);
    rows.push(Row {
        name: "start".into(),
        what: "spawn to first `_ping`".into(),
        unit: Unit::Milliseconds,
        measure: Measure::Start(Answer::Ping),
        containers: 0,
        repeat: Repeat { warm_up: 1, ..repeats.long() },
    });
    rows
}

fn memory(name: &str, state: &str, after_list: bool, containers: usize) -> Vec<Row> {
    [(Kind::Resident, "", "resident"), (Kind::Private, ".private", "private")]
        .into_iter()
        .map(|(kind, suffix, word)| Row {
            name: format!("{name}{suffix}"),
            what: format!("daemon {state}: {word}"),
            unit: Unit::Mebibytes,
            measure: Measure::Memory { kind, after_list },
            containers,
            repeat: Repeats::once(),
        })
        .collect()
}

fn lives(repeats: Repeats) -> Vec<Row> {
    let mut rows = vec![Row {
        name: "create".into(),
        what: "create alone".into(),
        unit: Unit::Milliseconds,
        measure: Measure::Create,
        containers: 0,
        repeat: repeats.runs(),
    }];
    for (network, word) in [(Network::None, "none"), (Network::Bridge, "bridge")] {
        for at_once in [1, 8] {
            let (suffix, words) = crowd(at_once);
            rows.push(Row {
                name: format!("life.{word}{suffix}"),
                what: format!("create, start, wait, remove; network {word}{words}"),
                unit: Unit::Milliseconds,
                measure: Measure::Life { network, at_once },
                containers: 0,
                repeat: repeats.runs(),
            });
        }
    }
    for (command, word) in [(CniCommand::Add, "add"), (CniCommand::Del, "del")] {
        rows.push(Row {
            name: format!("cni.{word}"),
            what: format!("CNI plugins of the default bridge: {word}"),
            unit: Unit::Milliseconds,
            measure: Measure::Cni(command),
            containers: 0,
            repeat: repeats.runs(),
        });
    }
    rows
}

fn looks(repeats: Repeats) -> Vec<Row> {
    let rows = [
        ("stats.once", "stats of a running container, one sample", Look::Stats),
        ("top", "processes of a running container", Look::Top),
    ];
    rows.map(|(name, what, look)| Row {
        name: name.into(),
        what: what.into(),
        unit: Unit::Milliseconds,
        measure: Measure::Look(look),
        containers: 0,
        repeat: repeats.requests(),
    })
    .into()
}

fn execs(repeats: Repeats) -> Vec<Row> {
    let row = |at_once| {
        let (suffix, words) = crowd(at_once);
        Row {
            name: format!("exec{suffix}"),
            what: format!("create, start attached, inspect of an exec of `true`{words}"),
            unit: Unit::Milliseconds,
            measure: Measure::Exec { at_once },
            containers: 0,
            repeat: repeats.runs(),
        }
    };
    vec![row(1), row(8)]
}

fn logs(repeats: Repeats) -> Vec<Row> {
    let row = |name: &str, what: String, measure, repeat| Row {
        name: name.into(),
        what,
        unit: Unit::MegabytesPerSecond,
        measure,
        containers: 0,
        repeat,
    };
    let read = |name: &str, megabytes: usize, repeat| {
        let what = format!("`GET logs` of {megabytes} MB");
        row(name, what, Measure::LogRead(megabytes * 1_000_000), repeat)
    };
    let megabytes = if repeats.quick { 16 } else { 64 };
    let crowd = if repeats.quick { 10 } else { 50 };
    vec![
        row(
            "logs.write",
            format!("start to end of a container that writes {megabytes} MB in lines of {LINE}"),
            Measure::LogWrite(megabytes * 1_000_000),
            repeats.long(),
        ),
        if repeats.quick {
            read("logs.read", megabytes, repeats.long())
        } else {
            read("logs.1gb", 1000, repeats.single())
        },
        Row {
            name: "logs.crowd".into(),
            what: format!(
                "processor time of daemon and monitors, {crowd} containers writing {LINES_PER_SECOND} lines a second each, none lost"
            ),
            unit: Unit::Processor,
            measure: Measure::LogCrowd(crowd),
            containers: 0,
            repeat: Repeats::once(),
        },
    ]
}

fn beside() -> Vec<Row> {
    vec![
        Row {
            name: "memory.beside".into(),
            what: "private, beside the daemon, for each running container".into(),
            unit: Unit::Mebibytes,
            measure: Measure::MemoryBeside(Helpers::All),
            containers: 0,
            repeat: Repeats::once(),
        },
        Row {
            name: "memory.monitor".into(),
            what: "private, the monitor of a running container alone".into(),
            unit: Unit::Mebibytes,
            measure: Measure::MemoryBeside(Helpers::Monitors),
            containers: 0,
            repeat: Repeats::once(),
        },
    ]
}

fn copies(repeats: Repeats, bytes: usize) -> Vec<Row> {
    let megabytes = bytes / 1_000_000;
    let rows = [
        ("cp.out", format!("`GET archive` of a tree of {megabytes} MB"), CopyWay::Out),
        ("cp.in", format!("`PUT archive` of a tree of {megabytes} MB"), CopyWay::In),
        ("export", format!("`GET export` of a container with {megabytes} MB"), CopyWay::Export),
    ];
    let row = |(name, what, way): (&str, String, CopyWay)| Row {
        name: name.into(),
        what,
        unit: Unit::MegabytesPerSecond,
        measure: Measure::Copy(way, bytes),
        containers: 0,
        repeat: Repeat { most: 2, ..repeats.long() },
    };
    rows.map(row).into()
}

fn transfers(repeats: Repeats, bytes: usize) -> Vec<Row> {
    let megabytes = bytes / 1_000_000;
    let ways = [
        ("pull", TransferWay::Pull, "from a registry on this machine"),
        ("push", TransferWay::Push, "to a registry on this machine"),
        ("save", TransferWay::Save, "to an archive"),
        ("load", TransferWay::Load, "from an archive"),
    ];
    let rows = ways.into_iter().flat_map(|(name, way, place)| {
        let what = format!("{name} of {megabytes} MB in 6 layers {place}");
        let peak = format!("the most that is resident during a {name} of {megabytes} MB");
        [
            (name.to_owned(), what, Unit::MegabytesPerSecond, Figure::Speed, way, repeats.long()),
            (format!("memory.{name}"), peak, Unit::Mebibytes, Figure::Peak, way, repeats.single()),
        ]
    });
    rows.map(|(name, what, unit, figure, way, repeat)| Row {
        name,
        what,
        unit,
        measure: Measure::Transfer(way, figure, bytes),
        containers: 0,
        repeat,
    })
    .collect()
}

fn image_list(repeats: Repeats, names: usize) -> Row {
    Row {
        name: format!("image.list.{names}"),
        what: format!("list of images, {names} names of three"),
        unit: Unit::Milliseconds,
        measure: Measure::ImageList(names),
        containers: 0,
        repeat: repeats.requests(),
    }
}

fn reads(repeats: Repeats, size: usize, clients: Clients) -> [Row; 2] {
    let (suffix, words) = crowd(clients.count);
    let verbs = [("inspect", Measure::Inspect(clients)), ("list", Measure::List(clients))];
    verbs.map(|(verb, measure)| {
        // One round of long lists for a crowd can take a minute: its samples must do.
        let slow = measure == Measure::List(Clients::CROWD) && size >= 100;
        let (warm_up, least) = if slow { (0, 1) } else { (1, 2) };
        Row {
            name: format!("{verb}.{size}{suffix}"),
            what: format!("{verb} with {size} containers{words}"),
            unit: Unit::Milliseconds,
            measure,
            containers: size,
            repeat: Repeat { warm_up, least, ..repeats.requests() },
        }
    })
}

fn hung(repeats: Repeats, size: usize) -> Vec<Row> {
    let rows = [
        ("list", format!("list of {size} while one more has a stopped shim"), Measure::ListHung),
        ("inspect", "inspect of a container whose shim is stopped".into(), Measure::InspectHung),
    ];
    rows.map(|(verb, what, measure)| Row {
        name: format!("{verb}.{size}.hung"),
        what,
        unit: Unit::Milliseconds,
        measure,
        containers: size,
        repeat: repeats.requests(),
    })
    .into()
}

fn loaded(repeats: Repeats, size: usize) -> Vec<Row> {
    let mut rows =
        memory(&format!("memory.{size}"), &format!("after a list of {size}"), true, size);
    for (name, what, answer) in [
        (format!("start.{size}"), "spawn to first `_ping`", Answer::Ping),
        (format!("start.{size}.list"), "spawn to first list", Answer::List),
    ] {
        rows.push(Row {
            name,
            what: format!("{what}, {size} containers there"),
            unit: Unit::Milliseconds,
            measure: Measure::Start(answer),
            containers: size,
            repeat: Repeat { most: 3, ..repeats.long() },
        });
    }
    rows
}

fn crowd(count: usize) -> (String, String) {
    match count {
        1 => (String::new(), String::new()),
        _ => (format!(".x{count}"), format!(", {count} at once")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_only_become_more_and_names_are_unique() {
        for quick in [false, true] {
            let rows = all(quick);
            assert!(rows.is_sorted_by_key(|row| row.containers));
            let mut names: Vec<_> = rows.iter().map(|row| &row.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), rows.len());
        }
    }
}
