//! The CNI plugins of the default bridge, without a daemon.
//!
//! Plugins work on the network and the files of whoever runs them, so they are run by a second process of this program
//! inside the sandbox: it reads ids from standard input and answers each with the times that the plugins took.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use ::cni::{Attachment, Cni, Conflist, DEFAULT_BRIDGE_SUBNET, default_bridge};
use e2e::{Context, Result, Sandbox, bail, ensure, unique};

use crate::crowd::milliseconds_since;

/// The flag that makes this program the helper.
pub(crate) const HELPER_FLAG: &str = "--cni-helper";
/// Where Debian has the plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// What the plugins took for one container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// Milliseconds to attach it.
    pub(crate) add: f64,
    /// Milliseconds to detach it.
    pub(crate) del: f64,
}

/// The process inside. It ends with this value.
#[derive(Debug)]
pub(crate) struct Helper {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(sandbox: &Sandbox) -> Result<Self> {
        let me = std::env::current_exe().context("own path")?;
        let mut process = sandbox
            .command(me)
            .arg(HELPER_FLAG)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the helper for CNI")?;
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().context("no output")?);
        Ok(Self { process, input, output })
    }

    /// Attaches a new network namespace to the default bridge and detaches it.
    ///
    /// # Errors
    /// With the words of the plugin that failed.
    pub(crate) fn attach_and_detach(&mut self) -> Result<Times> {
        let input = self.input.as_mut().context("the helper has no input")?;
        writeln!(input, "{}", unique("bench")).context("asking the helper")?;
        let mut answer = String::new();
        self.output.read_line(&mut answer).context("reading from the helper")?;
        parse(&answer).with_context(|| format!("CNI: {}", answer.trim()))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

fn parse(answer: &str) -> Option<Times> {
    let mut words = answer.strip_prefix("took ")?.split_whitespace();
    Some(Times { add: words.next()?.parse().ok()?, del: words.next()?.parse().ok()? })
}

/// The process inside: an id a line, until the end of input.
///
/// # Errors
/// When nobody reads the answers.
pub(crate) fn help() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for id in std::io::stdin().lines() {
        let answer = match runtime.block_on(one(&id.context("reading an id")?)) {
            Ok(times) => format!("took {} {}\n", times.add, times.del),
            Err(error) => format!("{error:#}\n").replace('\n', " ") + "\n",
        };
        let mut output = std::io::stdout().lock();
        output.write_all(answer.as_bytes()).and_then(|()| output.flush()).context("answering")?;
    }
    Ok(())
}

async fn one(id: &str) -> Result<Times> {
    let list = Conflist::parse(default_bridge(DEFAULT_BRIDGE_SUBNET, false).as_bytes(), None)?;
    let cni = Cni::new(vec![PLUGINS.into()]);
    let network = Namespace::new(id)?;
    let attachment = Attachment {
        container_id: id.into(),
        netns: Some(network.path()),
        if_name: "eth0".into(),
        ..Attachment::default()
    };
    let began = Instant::now();
    let added = cni.add(&list, &attachment).await;
    let add = milliseconds_since(began);
    let began = Instant::now();
    let deleted = cni.del(&list, &attachment).await;
    let del = milliseconds_since(began);
    ensure!(!added.context("ADD")?.ips.is_empty(), "ADD gives no address");
    deleted.context("DEL")?;
    Ok(Times { add, del })
}

/// A network namespace with a name.
struct Namespace(String);

impl Namespace {
    fn new(name: &str) -> Result<Self> {
        netns("add", name)?;
        Ok(Self(name.to_owned()))
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.0)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = netns("del", &self.0);
    }
}

fn netns(verb: &str, name: &str) -> Result<()> {
    let status = Command::new("ip").args(["netns", verb, name]).status().context("ip netns")?;
    if !status.success() {
        bail!("ip netns {verb} {name}: {status}");
    }
    Ok(())
}
