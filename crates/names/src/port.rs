//! Ports of containers and hosts: `80/tcp`, `8000-8010/udp`.
//!
//! Source of the format: docker/go-connections `nat/nat.go`, `nat/parse.go`.

use std::error::Error;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A transport protocol that can be published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, which is also meant when nothing is said.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The lower-case name: `tcp`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl FromStr for Protocol {
    type Err = InvalidPort;

    /// Takes any case.
    fn from_str(given: &str) -> Result<Self, Self::Err> {
        [Self::Tcp, Self::Udp, Self::Sctp]
            .into_iter()
            .find(|protocol| protocol.name().eq_ignore_ascii_case(given))
            .ok_or_else(|| InvalidPort::Protocol(given.to_owned()))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One port number or several in a row: `8080`, `8000-8010`. As a host port, 0 means "any free one".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// A range of one.
    #[must_use]
    pub const fn single(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// The lowest port.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// Whether it is one port only.
    #[must_use]
    pub const fn is_single(self) -> bool {
        self.first == self.last
    }

    /// All ports, lowest first.
    #[must_use]
    pub const fn ports(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl FromStr for PortRange {
    type Err = InvalidPort;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        if given.is_empty() {
            return Err(InvalidPort::Empty);
        }
        let (first, last) = given.split_once('-').unwrap_or((given, given));
        let number = |text: &str| {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u16>()
                .ok()
                .filter(|_| is_plain)
                .ok_or_else(|| InvalidPort::Number(given.to_owned()))
        };
        let (first, last) = (number(first)?, number(last)?);
        if last < first {
            return Err(InvalidPort::Backwards(given.to_owned()));
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_single() {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Ports of a container with their protocol: `80/tcp`, `8000-8010/udp`, `53` (which is TCP). Never port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSpec {
    range: PortRange,
    protocol: Protocol,
}

impl PortSpec {
    /// One port, unless it is 0.
    #[must_use]
    pub fn single(port: u16, protocol: Protocol) -> Option<Self> {
        (port != 0).then_some(Self { range: PortRange::single(port), protocol })
    }

    /// The port numbers.
    #[must_use]
    pub const fn range(self) -> PortRange {
        self.range
    }

    /// The protocol.
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        self.protocol
    }

    /// Each port on its own, lowest first.
    pub fn each(self) -> impl Iterator<Item = Self> {
        self.range
            .ports()
            .map(move |port| Self { range: PortRange::single(port), protocol: self.protocol })
    }
}

impl FromStr for PortSpec {
    type Err = InvalidPort;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let (ports, protocol) = given.split_once('/').unwrap_or((given, ""));
        let protocol = if protocol.is_empty() { Protocol::Tcp } else { protocol.parse()? };
        let range: PortRange = ports.parse()?;
        if range.first == 0 {
            return Err(InvalidPort::Number(ports.to_owned()));
        }
        Ok(Self { range, protocol })
    }
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.range, self.protocol)
    }
}

/// A text that names no port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidPort {
    /// Nothing was given.
    Empty,
    /// Not a number from 1 to 65535, or two of them with a dash between. Holds the text.
    Number(String),
    /// A range that ends before it starts. Holds the text.
    Backwards(String),
    /// Neither tcp, udp nor sctp. Holds the text.
    Protocol(String),
}

impl fmt::Display for InvalidPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no port specified"),
            Self::Number(given) => write!(f, "invalid port: {given}"),
            Self::Backwards(given) => write!(f, "invalid port range: {given}"),
            Self::Protocol(given) => write!(f, "invalid proto: {given}"),
        }
    }
}

impl Error for InvalidPort {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_is_meant_when_nothing_is_said() {
        for (given, shown) in [
            ("80", "80/tcp"),
            ("80/", "80/tcp"),
            ("80/UDP", "80/udp"),
            ("1-65535/sctp", "1-65535/sctp"),
        ] {
            assert_eq!(given.parse::<PortSpec>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn ranges_fall_apart_into_ports() {
        let spec: PortSpec = "8000-8002/udp".parse().unwrap();
        let each: Vec<_> = spec.each().map(|port| port.to_string()).collect();
        assert_eq!(each, ["8000/udp", "8001/udp", "8002/udp"]);
        assert!(!spec.range().is_single());
        let last: PortSpec = "65535".parse().unwrap();
        assert_eq!(last.each().count(), 1, "no overflow at the end");
    }

    #[test]
    fn what_is_no_port() {
        for (given, expected) in [
            ("", "no port specified"),
            ("/tcp", "no port specified"),
            ("0", "invalid port: 0"),
            ("65536", "invalid port: 65536"),
            ("+80", "invalid port: +80"),
            ("-1", "invalid port: -1"),
            ("80-", "invalid port: 80-"),
            ("1-2-3", "invalid port: 1-2-3"),
            ("90-80/tcp", "invalid port range: 90-80"),
            ("80/icmp", "invalid proto: icmp"),
            ("80/tcp/udp", "invalid proto: tcp/udp"),
        ] {
            assert_eq!(given.parse::<PortSpec>().unwrap_err().to_string(), expected, "{given}");
        }
    }

    #[test]
    fn a_host_port_may_be_any() {
        assert_eq!("0".parse(), Ok(PortRange::single(0)));
    }

    #[test]
    fn ports_sort_by_number() {
        let sorted =
            |a: &str, b: &str| a.parse::<PortSpec>().unwrap() < b.parse::<PortSpec>().unwrap();
        assert!(sorted("9/tcp", "80/tcp") && sorted("80/tcp", "80/udp"));
    }
}
