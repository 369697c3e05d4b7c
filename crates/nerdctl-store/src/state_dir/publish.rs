//! `publish.json`: the ports that a container is to publish, as the user asked for them.
//!
//! `network-config.json` holds numbers only, while a user may leave the choice to us, anew at each start. So the wishes
//! stand beside it, and the createRuntime hook, who knows which ports are free, makes the numbers of them. The file is
//! ours alone; a container without wishes has none. Fields are only ever added, since old files stay for years.

use serde::{Deserialize, Serialize};

/// One port to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortWish {
    /// Port in the container.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Address on the host; empty for all of them.
    #[serde(default)]
    pub host_ip: String,
    /// The lowest port on the host that will do; 0 for any.
    #[serde(default)]
    pub first_host_port: u16,
    /// The highest.
    #[serde(default)]
    pub last_host_port: u16,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Wishes {
    #[serde(default)]
    pub(super) ports: Vec<PortWish>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_what_hooks_of_all_releases_read() {
        let wish = PortWish {
            container_port: 80,
            protocol: "tcp".into(),
            host_ip: "127.0.0.1".into(),
            first_host_port: 8000,
            last_host_port: 8010,
        };
        let text = serde_json::to_string(&Wishes { ports: vec![wish] }).unwrap();
        assert_eq!(
            text,
            r#"{"ports":[{"containerPort":80,"protocol":"tcp","hostIp":"127.0.0.1","firstHostPort":8000,"lastHostPort":8010}]}"#
        );
        let short: Wishes =
            serde_json::from_str(r#"{"ports":[{"containerPort":53,"protocol":"udp"}],"later":1}"#)
                .unwrap();
        assert_eq!((short.ports[0].first_host_port, short.ports[0].host_ip.as_str()), (0, ""));
    }
}
