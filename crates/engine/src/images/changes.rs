//! Instructions of a Dockerfile that change how an image is run: `docker commit --change`, `docker import --change`.
//!
//! Source: moby `daemon/builder/dockerfile/dispatchers.go`; BuildKit `frontend/dockerfile/{parser,instructions,shell}`. The
//! texts of errors are theirs.

mod words;

use names::{PortSpec, Signal};

use super::run_config::{HealthCheck, Nothing, RunConfig, name_of};
use crate::{Error, Result};
use words::{expand, pairs, too_long, words};

/// What shell forms are run with.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// Bytes of environment, labels and volumes together; containerd would not keep more.
const MAX_CONFIG: usize = 4 << 20;
/// Shortest duration of a health check, in nanoseconds.
const MILLISECOND: i64 = 1_000_000;

/// Applies each instruction to the config, in order.
///
/// # Errors
/// [`Error::InvalidParameter`] in Docker's words; the config is half changed then.
pub(crate) fn apply(config: &mut RunConfig, changes: &[String]) -> Result<()> {
    let mut command_is_set = false;
    for line in lines(changes) {
        let (instruction, rest) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
        let (name, rest) = (instruction.to_ascii_uppercase(), rest.trim());
        match name.as_str() {
            "CMD" => {
                config.cmd = Some(command(config, rest));
                command_is_set = true;
            }
            "ENTRYPOINT" => {
                config.entrypoint = Some(command(config, rest));
                if !command_is_set {
                    config.cmd = None;
                }
            }
            "ENV" => environment(config, rest)?,
            "EXPOSE" => expose(config, rest)?,
            "HEALTHCHECK" => config.healthcheck = Some(health_check(rest)?),
            "LABEL" => config.labels.extend(named_values(config, "LABEL", rest)?),
            "ONBUILD" => config.on_build.push(trigger(rest)?),
            "STOPSIGNAL" => config.stop_signal = stop_signal(config, rest)?,
            "USER" => config.user = expand(one("USER", rest)?, &config.env)?,
            "VOLUME" => volumes(config, rest)?,
            "WORKDIR" => work_dir(config, rest)?,
            _ => return Err(bad(format!("{name} is not a valid change command"))),
        }
        if expanded_size(config) > MAX_CONFIG {
            return Err(bad(format!("the changed config has more than {MAX_CONFIG} bytes")));
        }
    }
    Ok(())
}

/// Bytes of what variables can be replaced in.
fn expanded_size(config: &RunConfig) -> usize {
    let env = config.env.iter().map(String::len);
    let labels = config.labels.iter().map(|(name, value)| name.len() + value.len());
    let volumes = config.volumes.keys().map(String::len);
    env.chain(labels).chain(volumes).sum()
}

fn bad(text: impl Into<String>) -> Error {
    Error::InvalidParameter(text.into())
}

/// Lines without comments and empty ones; a backslash at the end goes on with the next one.
fn lines(changes: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in changes.iter().flat_map(|change| change.lines()) {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.trim_end().strip_suffix('\\') {
            Some(begun) => open.push_str(begun),
            None => {
                open.push_str(line);
                lines.push(std::mem::take(&mut open));
            }
        }
    }
    lines.extend((!open.is_empty()).then_some(open));
    lines
}

/// The one argument that an instruction has, blanks and all.
fn one<'a>(instruction: &str, rest: &'a str) -> Result<&'a str> {
    if rest.is_empty() {
        return Err(bad(format!("{instruction} requires exactly one argument")));
    }
    Ok(rest)
}

fn some<'a>(instruction: &str, rest: &'a str) -> Result<&'a str> {
    if rest.is_empty() {
        return Err(bad(format!("{instruction} requires at least one argument")));
    }
    Ok(rest)
}

/// A JSON array of texts, if it is one.
fn exec_form(rest: &str) -> Option<Vec<String>> {
    if rest.starts_with('[') { serde_json::from_str(rest).ok() } else { None }
}

/// What to run: as it is given in the exec form, else through a shell.
fn command(config: &RunConfig, rest: &str) -> Vec<String> {
    if let Some(words) = exec_form(rest) {
        return words;
    }
    if rest.is_empty() {
        return Vec::new();
    }
    let own = config.shell.iter().map(String::as_str);
    let shell: Vec<&str> = if config.shell.is_empty() { SHELL.to_vec() } else { own.collect() };
    shell.into_iter().chain([rest]).map(str::to_owned).collect()
}

/// `a=b c="d e"`, with variables replaced; or `a b c` for `a=b c`.
fn named_values(
    config: &RunConfig,
    instruction: &str,
    rest: &str,
) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut total = 0;
    for (name, value) in pairs(instruction, some(instruction, rest)?)? {
        let name = expand(&name, &config.env)?;
        if name.is_empty() {
            return Err(bad(format!("{instruction} names can not be blank")));
        }
        let value = expand(&value, &config.env)?;
        total += value.len();
        if total > MAX_CONFIG {
            return Err(too_long());
        }
        found.push((name, value));
    }
    Ok(found)
}

fn environment(config: &mut RunConfig, rest: &str) -> Result<()> {
    for (name, value) in named_values(config, "ENV", rest)? {
        let pair = format!("{name}={value}");
        match config.env.iter_mut().find(|known| name_of(known) == name) {
            Some(known) => *known = pair,
            None => config.env.push(pair),
        }
    }
    Ok(())
}

fn expose(config: &mut RunConfig, rest: &str) -> Result<()> {
    for word in words(some("EXPOSE", rest)?) {
        let word = expand(&word, &config.env)?;
        let port = word.split('/').next().unwrap_or_default();
        let spec: PortSpec =
            word.parse().map_err(|_| bad(format!("invalid containerPort: {port}")))?;
        for one in spec.each() {
            let text = format!("{}/{}", one.range().first(), one.protocol());
            config.exposed_ports.insert(text, Nothing {});
        }
    }
    Ok(())
}

fn volumes(config: &mut RunConfig, rest: &str) -> Result<()> {
    let given = some("VOLUME", rest)?;
    let mut total = 0;
    for path in exec_form(given).unwrap_or_else(|| words(given)) {
        let path = expand(&path, &config.env)?;
        if path.is_empty() {
            return Err(bad("VOLUME specified can not be an empty string"));
        }
        total += path.len();
        if total > MAX_CONFIG {
            return Err(too_long());
        }
        config.volumes.insert(path, Nothing {});
    }
    Ok(())
}

/// A relative one is below the one before.
fn work_dir(config: &mut RunConfig, rest: &str) -> Result<()> {
    let given = expand(one("WORKDIR", rest)?, &config.env)?;
    let full = std::path::Path::new("/").join(&config.working_dir).join(given);
    config.working_dir = crate::archive::clean(full.as_os_str()).to_string_lossy().into_owned();
    Ok(())
}

fn stop_signal(config: &RunConfig, rest: &str) -> Result<String> {
    let given = expand(one("STOPSIGNAL", rest)?, &config.env)?;
    given.parse::<Signal>().map_err(|_| bad(format!("invalid signal: {given}")))?;
    Ok(given)
}

fn trigger(rest: &str) -> Result<String> {
    let first = some("ONBUILD", rest)?.split_whitespace().next().unwrap_or_default();
    match first.to_ascii_uppercase().as_str() {
        "ONBUILD" => Err(bad("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
        name @ ("FROM" | "MAINTAINER") => {
            Err(bad(format!("{name} isn't allowed as an ONBUILD trigger")))
        }
        _ => Ok(rest.to_owned()),
    }
}

fn health_check(rest: &str) -> Result<HealthCheck> {
    let mut check = HealthCheck::default();
    let mut rest = some("HEALTHCHECK", rest)?;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        match name {
            "interval" => check.interval = duration(name, value)?,
            "timeout" => check.timeout = duration(name, value)?,
            "start-period" => check.start_period = duration(name, value)?,
            "start-interval" => check.start_interval = duration(name, value)?,
            "retries" => check.retries = retries(value)?,
            _ => return Err(bad(format!("unknown flag: --{name}"))),
        }
        rest = after.trim_start();
    }
    let (kind, arguments) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let arguments = arguments.trim();
    match kind.to_ascii_uppercase().as_str() {
        "" => Err(bad("HEALTHCHECK requires at least one argument")),
        "NONE" if arguments.is_empty() => Ok(HealthCheck { test: vec!["NONE".into()], ..check }),
        "NONE" => Err(bad("HEALTHCHECK NONE takes no arguments")),
        "CMD" if arguments.is_empty() => Err(bad("Missing command after HEALTHCHECK CMD")),
        "CMD" => {
            let words = exec_form(arguments).map(|words| ("CMD", words));
            let (kind, words) = words.unwrap_or(("CMD-SHELL", vec![arguments.to_owned()]));
            let test = std::iter::once(kind.to_owned()).chain(words).collect();
            Ok(HealthCheck { test, ..check })
        }
        other => Err(bad(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)"))),
    }
}

fn retries(value: &str) -> Result<i64> {
    match value.parse::<i32>() {
        Ok(count) if count >= 0 => Ok(count.into()),
        Ok(count) => Err(bad(format!("--retries cannot be negative ({count})"))),
        Err(_) => Err(bad(format!("strconv.ParseInt: parsing {value:?}: invalid syntax"))),
    }
}

fn duration(name: &str, value: &str) -> Result<i64> {
    let nanos =
        go_duration(value).ok_or_else(|| bad(format!("time: invalid duration {value:?}")))?;
    if nanos != 0 && nanos < MILLISECOND {
        return Err(bad(format!("Interval \"--{name}\" cannot be less than 1ms")));
    }
    Ok(nanos)
}

/// `1h15m30.5s` in nanoseconds (Go `time.ParseDuration`).
fn go_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut sum: i128 = 0;
    while !rest.is_empty() || sum == 0 {
        let end = rest.find(|next: char| !next.is_ascii_digit() && next != '.')?;
        let (number, behind) = rest.split_at(end);
        let unit_end =
            behind.find(|next: char| next.is_ascii_digit() || next == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let mut place = scale;
        sum = sum.checked_add(whole.checked_mul(scale)?)?;
        for digit in fraction.chars() {
            place /= 10;
            sum += place * i128::from(digit.to_digit(10)?);
        }
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    i64::try_from(if negative { -sum } else { sum }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> Result<RunConfig> {
        let mut config =
            RunConfig { env: vec!["PATH=/bin".into(), "V=x".into()], ..RunConfig::default() };
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        apply(&mut config, &changes).map(|()| config)
    }

    #[test]
    fn doubling_ends() {
        let mut changes = vec!["ENV A=0123456789abcdef"];
        changes.resize(40, "ENV A=$A$A");
        let error = applied(&changes).unwrap_err().to_string();
        assert!(error.contains("a value has more than 1048576 bytes"), "{error}");
        changes.truncate(15);
        let long = format!("LABEL {}", (0..20).map(|at| format!("l{at}=$A ")).collect::<String>());
        assert!(applied(&changes).is_ok());
        changes.push(&long);
        assert!(applied(&changes).is_err());
    }

    #[test]
    fn every_instruction() {
        let config = applied(&[
            "ENV A=1 B=\"two words\"",
            "env OLD form of it",
            "ENV V=$A/${V}/${NOPE:-other}",
            "LABEL a=b \"c d\"='$A'",
            "EXPOSE 80 8000-8002/udp $A",
            "USER me:us",
            "WORKDIR /a/../b\nWORKDIR c",
            "VOLUME [\"/v 1\"]\nVOLUME /w /x",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN true",
            "CMD echo $A",
            "# a comment\nENTRYPOINT [\"/bin/e\", \"x\"]",
            "HEALTHCHECK --interval=1m30s --retries=3 CMD [\"ok\"]",
        ])
        .unwrap();
        assert_eq!(
            config.env,
            ["PATH=/bin", "V=1/x/other", "A=1", "B=two words", "OLD=form of it"]
        );
        assert_eq!(config.labels["c d"], "$A");
        let ports: Vec<_> = config.exposed_ports.keys().map(String::as_str).collect();
        assert_eq!(ports, ["1/tcp", "80/tcp", "8000/udp", "8001/udp", "8002/udp"]);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("me:us", "/b/c"));
        assert_eq!(config.volumes.keys().collect::<Vec<_>>(), ["/v 1", "/w", "/x"]);
        assert_eq!(config.cmd.unwrap(), ["/bin/sh", "-c", "echo $A"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/e", "x"]);
        let check = config.healthcheck.unwrap();
        assert_eq!(
            (check.test, check.interval, check.retries),
            (vec!["CMD".to_owned(), "ok".to_owned()], 90_000_000_000, 3)
        );
        assert_eq!(
            (config.on_build, config.stop_signal),
            (vec!["RUN true".into()], "SIGINT".into())
        );
    }

    #[test]
    fn an_entry_point_takes_the_command_away() {
        let mut config = RunConfig { cmd: Some(vec!["old".into()]), ..RunConfig::default() };
        apply(&mut config, &["ENTRYPOINT e".into()]).unwrap();
        assert_eq!(config.cmd, None);
    }

    #[test]
    fn dockers_words_for_mistakes() {
        for (change, expected) in [
            ("RUN x", "RUN is not a valid change command"),
            ("foo", "FOO is not a valid change command"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV a", "ENV must have two arguments"),
            ("ENV A=1 2", "Syntax error - can't find = in \"2\". Must be of the form: name=value"),
            ("EXPOSE a", "invalid containerPort: a"),
            ("EXPOSE 70000", "invalid containerPort: 70000"),
            ("WORKDIR", "WORKDIR requires exactly one argument"),
            ("STOPSIGNAL foo", "invalid signal: foo"),
            ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
            ("HEALTHCHECK x", "Unknown type \"X\" in HEALTHCHECK (try CMD)"),
            ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
            ("HEALTHCHECK --interval=1ns CMD x", "Interval \"--interval\" cannot be less than 1ms"),
        ] {
            assert_eq!(applied(&[change]).unwrap_err().to_string(), expected, "{change}");
        }
    }

    #[test]
    fn durations_of_go() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1.5s", Some(1_500_000_000)),
            ("1h1m1s", Some(3_661_000_000_000)),
            ("-2ms", Some(-2_000_000)),
            ("", None),
            ("5", None),
            ("s", None),
            ("1x", None),
            ("99999999999999999h", None),
            ("0s", Some(0)),
        ] {
            assert_eq!(go_duration(text), expected, "{text}");
        }
    }
}
