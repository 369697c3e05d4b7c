//! `HostConfig.LogConfig`: the driver, and its options one by one.

use std::collections::BTreeMap;

use docker_wire::host_config::HostConfig;
use engine::containers::{LogDriver, OptionError, check_log_options};

use super::bad;
use crate::api::error::ApiError;

/// Drivers that dockerd has and we do not (moby `daemon/logdrivers_linux.go`).
const NOT_BUILT: [&str; 5] = ["awslogs", "fluentd", "gcplogs", "gelf", "splunk"];

/// The driver and its options, checked.
pub(super) fn decode(host: &HostConfig) -> Result<(LogDriver, BTreeMap<String, String>), ApiError> {
    let name = match host.log_config.driver.as_str() {
        "" => LogDriver::JsonFile.as_str(),
        name => name,
    };
    if NOT_BUILT.contains(&name) {
        let field = format!("HostConfig.LogConfig.Type {name:?}");
        return Err(engine::Error::unsupported(field).into());
    }
    let driver: LogDriver = name.parse().map_err(|_| unknown(name))?;
    let options = host.log_config.config.clone().unwrap_or_default();
    match check_log_options(driver, &options) {
        Ok(()) => Ok((driver, options)),
        Err(OptionError::NotBuilt(what)) => Err(engine::Error::unsupported(what).into()),
        Err(error) => Err(bad(error.to_string()).into()),
    }
}

/// Any other name could be a plugin's, to dockerd (moby `daemon/logger/plugin.go`).
fn unknown(name: &str) -> ApiError {
    bad(format!("error looking up logging plugin {name}: plugin {name:?} not found")).into()
}

#[cfg(test)]
mod tests {
    use docker_wire::host_config::LogConfig;

    use super::*;

    fn decoded(driver: &str, options: &[(&str, &str)]) -> Result<LogDriver, (u16, String)> {
        let config =
            options.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let log_config = LogConfig { driver: driver.to_owned(), config: Some(config) };
        let host = HostConfig { log_config, ..HostConfig::default() };
        decode(&host)
            .map(|(driver, _)| driver)
            .map_err(|error| (error.status().as_u16(), error.message()))
    }

    #[test]
    fn drivers() {
        for (name, expected) in [
            ("", LogDriver::JsonFile),
            ("json-file", LogDriver::JsonFile),
            ("local", LogDriver::Local),
            ("journald", LogDriver::Journald),
            ("syslog", LogDriver::Syslog),
            ("none", LogDriver::None),
        ] {
            assert_eq!(decoded(name, &[]), Ok(expected), "{name}");
        }
        for (name, status, text) in [
            ("fluentd", 501, "HostConfig.LogConfig.Type \"fluentd\" is not supported by nerdctld"),
            ("x", 400, "error looking up logging plugin x: plugin \"x\" not found"),
        ] {
            assert_eq!(decoded(name, &[]), Err((status, text.to_owned())));
        }
    }

    #[test]
    fn options() {
        assert_eq!(decoded("none", &[("anything", "x")]), Ok(LogDriver::None));
        let refused = decoded("journald", &[("max-size", "1m")]);
        let text = "unknown log opt 'max-size' for journald log driver";
        assert_eq!(refused, Err((400, text.to_owned())));
        let refused = decoded("local", &[("tag", "{{upper .Name}}")]);
        let text =
            "the action {{upper .Name}} in the log option \"tag\" is not supported by nerdctld";
        assert_eq!(refused, Err((501, text.to_owned())));
    }
}
