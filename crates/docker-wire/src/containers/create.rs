//! The body of `POST /containers/create` and its answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::ContainerConfig;
use crate::decode;
use crate::host_config::HostConfig;
use crate::networks::EndpointSettings;

/// A container to make: the fields of [`ContainerConfig`] at the top, and two objects beside them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerCreateRequest {
    /// `None` when the body had no single key of it, which Docker refuses.
    pub config: Option<ContainerConfig>,
    /// What depends on the host.
    pub host_config: Option<HostConfig>,
    /// Which networks to join.
    pub networking_config: Option<NetworkingConfig>,
}

/// What stands beside the configuration.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, expecting = "an object")]
struct Beside {
    host_config: Option<HostConfig>,
    networking_config: Option<NetworkingConfig>,
}

impl ContainerCreateRequest {
    /// The fields that a body sets to something, by Docker's names: see [`decode::set_fields`].
    #[must_use]
    pub fn set_fields(body: &Value) -> Vec<String> {
        let mut fields = decode::set_fields::<ContainerConfig>(body);
        fields.extend(decode::set_fields::<Beside>(body));
        fields
    }
}

/// moby embeds the configuration, so its keys share the top level with others. Written by hand because
/// `#[serde(flatten)]` would hide the field names from the decoder.
impl<'de> Deserialize<'de> for ContainerCreateRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;

        let body = Value::deserialize(deserializer)?;
        let Beside { host_config, networking_config } =
            decode::from_value_within(&body).map_err(D::Error::custom)?;
        let config = if decode::has_any_field::<ContainerConfig>(&body) {
            Some(decode::from_value_within(&body).map_err(D::Error::custom)?)
        } else {
            None
        };
        Ok(Self { config, host_config, networking_config })
    }
}

/// The networks that a new container joins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkingConfig {
    /// By name, id, or the start of an id. `null` for a network means its defaults.
    pub endpoints_config: BTreeMap<String, EndpointSettings>,
}

/// The container that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerCreateResponse {
    /// 64 hex digits.
    pub id: String,
    /// For people; never null.
    pub warnings: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::to_vec_line;

    fn decoded(json: &str) -> ContainerCreateRequest {
        decode::from_slice(json.as_bytes()).unwrap()
    }

    #[test]
    fn the_configuration_shares_the_top_level() {
        let request = decoded(
            r#"{"image":"nginx","Cmd":["a"],"hostconfig":{"autoremove":true},"NetworkingConfig":{"EndpointsConfig":{"n":null}}}"#,
        );
        assert_eq!(request.config.unwrap().image, "nginx");
        assert!(request.host_config.unwrap().auto_remove);
        assert_eq!(
            request.networking_config.unwrap().endpoints_config["n"],
            EndpointSettings::default()
        );
    }

    #[test]
    fn a_body_without_configuration_has_none() {
        for json in ["null", "{}", r#"{"HostConfig":{}}"#, r#"{"Unknown":1}"#] {
            assert_eq!(decoded(json).config, None, "{json}");
        }
        assert_eq!(decoded(r#"{"Image":null}"#).config, Some(ContainerConfig::default()));
    }

    #[test]
    fn mistakes_are_located() {
        let refused = |json: &str| {
            decode::from_slice::<ContainerCreateRequest>(json.as_bytes()).unwrap_err().to_string()
        };
        assert_eq!(
            refused(r#"{"Image":"x","HostConfig":{"Memory":"1g"}}"#),
            "invalid JSON: HostConfig.Memory: invalid type: string \"1g\", expected i64"
        );
        assert_eq!(
            refused(r#"{"Tty":1}"#),
            "invalid JSON: Tty: invalid type: integer `1`, expected a boolean"
        );
        assert_eq!(refused("[]"), "invalid JSON: invalid type: sequence, expected an object");
    }

    #[test]
    fn set_fields_have_dockers_names() {
        let body = serde_json::json!({
            "image": "nginx", "tty": false, "Labels": {},
            "hostconfig": { "capadd": ["ALL"], "Memory": 0, "restartpolicy": { "name": "always" }, "Init": false },
            "NetworkingConfig": { "EndpointsConfig": { "n": null } },
            "Unknown": 1
        });
        assert_eq!(
            ContainerCreateRequest::set_fields(&body),
            [
                "Image",
                "HostConfig.RestartPolicy.Name",
                "HostConfig.CapAdd",
                "NetworkingConfig.EndpointsConfig"
            ]
        );
    }

    #[test]
    fn warnings_are_never_null() {
        let response = ContainerCreateResponse { id: "ab".to_owned(), warnings: Vec::new() };
        assert_eq!(to_vec_line(&response).unwrap(), b"{\"Id\":\"ab\",\"Warnings\":[]}\n");
    }
}
