//! What the request and the image say together: Docker's rules of who wins.
//!
//! Source: moby `daemon/commit.go` (`merge`), `daemon/create.go`, `daemon/start.go` (`getEntrypointAndArgs`).

use std::collections::BTreeMap;

use names::Signal;

use crate::containers::ContainerSpec;
use crate::containers::health_check::HealthCheck;
use crate::containers::spec::mounts::clean;
use crate::images::ImageConfig;
use crate::{Error, Result};

/// The configuration that runs, and that inspect shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Program and its first arguments.
    pub entrypoint: Option<Vec<String>>,
    /// Arguments, or program and arguments where there is no entrypoint.
    pub cmd: Option<Vec<String>>,
    /// The request's variables, then those of the image that it does not mention. A bare `KEY` has no value.
    pub env: Vec<String>,
    /// As asked for; empty is root.
    pub user: String,
    /// Absolute.
    pub working_dir: String,
    /// The image's labels, and over them the request's.
    pub labels: BTreeMap<String, String>,
    /// How it is asked to stop.
    pub stop_signal: Signal,
    /// How to find out whether it is well; also where nothing is checked.
    pub health_check: Option<HealthCheck>,
}

impl Effective {
    /// Bring request and image together.
    ///
    /// # Errors
    /// [`Error::NoCommand`] if neither says what to run; [`Error::InvalidParameter`] for a relative working directory.
    pub fn merge(spec: &ContainerSpec, image: &ImageConfig) -> Result<Self> {
        let (entrypoint, cmd) = command(spec, image)?;
        let mut labels = image.labels.clone();
        labels.extend(spec.labels.clone());
        Ok(Self {
            entrypoint,
            cmd,
            env: env(&spec.env, &image.env),
            user: if spec.user.is_empty() { image.user.clone() } else { spec.user.clone() },
            working_dir: working_dir(spec, image)?,
            labels,
            stop_signal: stop_signal(spec, image),
            health_check: HealthCheck::merge(
                spec.upkeep.health_check.as_ref(),
                image.health_check.as_ref(),
            ),
        })
    }

    /// Program and arguments.
    #[must_use]
    pub fn args(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).flatten().cloned().collect()
    }
}

type Command = (Option<Vec<String>>, Option<Vec<String>>);

/// Entrypoint and command. An entrypoint of the request hides the image's command too, because that was meant for the
/// image's entrypoint; an empty one (`[]`, `[""]`) hides both.
fn command(spec: &ContainerSpec, image: &ImageConfig) -> Result<Command> {
    let mut entrypoint = spec.entrypoint.clone();
    let mut cmd = spec.cmd.clone();
    if is_empty(&entrypoint) {
        if is_empty(&cmd) {
            cmd.clone_from(&image.cmd);
        }
        if entrypoint.is_none() {
            entrypoint.clone_from(&image.entrypoint);
        }
    }
    if entrypoint.as_deref().is_some_and(|words| words.len() == 1 && words[0].is_empty()) {
        entrypoint = None;
    }
    if is_empty(&entrypoint) && is_empty(&cmd) {
        return Err(Error::NoCommand);
    }
    Ok((entrypoint, cmd))
}

fn is_empty(words: &Option<Vec<String>>) -> bool {
    words.as_ref().is_none_or(Vec::is_empty)
}

fn env(request: &[String], image: &[String]) -> Vec<String> {
    let mentioned = |entry: &String| request.iter().any(|given| key(given) == key(entry));
    request.iter().chain(image.iter().filter(|entry| !mentioned(entry))).cloned().collect()
}

/// `KEY` of `KEY=value`.
pub(crate) fn key(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(key, _)| key)
}

fn working_dir(spec: &ContainerSpec, image: &ImageConfig) -> Result<String> {
    let asked = spec.working_dir.as_deref().unwrap_or_default();
    if !asked.is_empty() && !asked.starts_with('/') {
        let text =
            format!("the working directory '{asked}' is invalid, it needs to be an absolute path");
        return Err(Error::InvalidParameter(text));
    }
    Ok(clean(if asked.is_empty() { &image.working_dir } else { asked }))
}

/// A signal in an image that Linux does not have counts as none (moby `daemon/container/container_unix.go`).
fn stop_signal(spec: &ContainerSpec, image: &ImageConfig) -> Signal {
    let of_image = || image.stop_signal.as_deref().and_then(|signal| signal.parse().ok());
    spec.stop_signal.or_else(of_image).unwrap_or(Signal::TERM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::tests::{container, image};

    fn words(text: &str) -> Option<Vec<String>> {
        Some(text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect())
    }

    #[test]
    fn who_says_what_runs() {
        // request's entrypoint and command, image's entrypoint and command; what runs (None: nothing does)
        type Row = (
            Option<&'static str>,
            Option<&'static str>,
            Option<&'static str>,
            Option<&'static str>,
        );
        let table: &[(Row, Option<&str>)] = &[
            ((None, None, Some("/entry"), Some("a b")), Some("/entry a b")),
            ((None, Some("x"), Some("/entry"), Some("a b")), Some("/entry x")),
            ((Some("/mine"), None, Some("/entry"), Some("a b")), Some("/mine")),
            ((Some("/mine"), Some("x"), Some("/entry"), Some("a b")), Some("/mine x")),
            ((Some(""), None, Some("/entry"), Some("a b")), Some("a b")),
            ((Some(""), Some("x"), Some("/entry"), Some("a b")), Some("x")),
            ((None, None, None, Some("sh")), Some("sh")),
            ((None, Some(""), None, Some("sh")), Some("sh")),
            ((None, None, None, None), None),
            ((Some(""), None, Some("/entry"), None), None),
        ];
        for (row, expected) in table {
            let mut spec = container();
            let mut image = image();
            spec.entrypoint = row.0.and_then(words);
            spec.cmd = row.1.and_then(words);
            image.entrypoint = row.2.and_then(words);
            image.cmd = row.3.and_then(words);
            let runs =
                Effective::merge(&spec, &image).ok().map(|effective| effective.args().join(" "));
            assert_eq!(runs.as_deref(), *expected, "{row:?}");
        }
    }

    #[test]
    fn an_entrypoint_of_one_empty_word_hides_the_images() {
        let mut spec = container();
        let mut image = image();
        image.entrypoint = words("/entry");
        spec.entrypoint = Some(vec![String::new()]);
        spec.cmd = words("x y");
        let effective = Effective::merge(&spec, &image).unwrap();
        assert_eq!((effective.entrypoint, effective.cmd), (None, words("x y")));
        spec.cmd = None;
        assert!(
            matches!(Effective::merge(&spec, &image), Err(Error::NoCommand)),
            "the image's command is hidden too"
        );
    }

    #[test]
    fn variables_of_the_request_come_first_and_win() {
        let given = ["A=1".to_owned(), "GONE".to_owned()];
        let image = ["PATH=/bin".to_owned(), "A=0".to_owned(), "GONE=x".to_owned()];
        assert_eq!(env(&given, &image), ["A=1", "GONE", "PATH=/bin"]);
    }

    #[test]
    fn working_directories() {
        for (path, expected) in
            [("", "/"), ("/a/./b//", "/a/b"), ("/../x", "/x"), ("srv", "/srv"), ("/", "/")]
        {
            assert_eq!(clean(path), expected, "{path}");
        }
        let mut spec = container();
        spec.working_dir = Some("srv".into());
        let error = Effective::merge(&spec, &image()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the working directory 'srv' is invalid, it needs to be an absolute path"
        );
    }

    #[test]
    fn stop_signals() {
        let mut spec = container();
        let mut image = image();
        assert_eq!(Effective::merge(&spec, &image).unwrap().stop_signal, Signal::TERM);
        image.stop_signal = Some("SIGNONSENSE".into());
        assert_eq!(Effective::merge(&spec, &image).unwrap().stop_signal, Signal::TERM);
        image.stop_signal = Some("SIGQUIT".into());
        assert_eq!(Effective::merge(&spec, &image).unwrap().stop_signal, Signal::QUIT);
        spec.stop_signal = Some(Signal::INT);
        assert_eq!(Effective::merge(&spec, &image).unwrap().stop_signal, Signal::INT);
    }
}
