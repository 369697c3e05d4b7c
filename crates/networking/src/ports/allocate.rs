//! From wishes to numbers: each with a socket bound to it, so that nobody else can have taken it meanwhile.
//!
//! Rules and words of moby `daemon/libnetwork/portallocator/portallocator.go`, `osallocator_linux.go`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use nerdctl_store::labels::values::PortMapping;
use nerdctl_store::state_dir::PortWish;
use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, ipproto, sockopt};

use super::forwarded::Forwarded;

/// How many connections the kernel would queue; none is ever accepted, since the rules come before the socket.
const BACKLOG: i32 = 1;

/// How often the kernel is asked for a free port before we believe that there is none.
const TRIES: u32 = 64;

/// The ports of a container that starts.
#[derive(Debug, Default)]
pub(crate) struct Allocation {
    /// What the `portmap` plugin is told, and `network-config.json`.
    pub(crate) mappings: Vec<PortMapping>,
    /// Bound to those ports.
    pub(crate) sockets: Vec<OwnedFd>,
}

/// Why a port cannot be published, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Another container has it.
    #[error("Bind for {} failed: port is already allocated", SocketAddr::new(*address, *port))]
    Allocated {
        /// The address that is taken.
        address: IpAddr,
        /// The port.
        port: u16,
    },
    /// Containers have the whole range.
    #[error("all ports are allocated")]
    AllAllocated,
    /// A program of the host has it, or the address is none of the host's.
    #[error("failed to bind host port {}/{protocol}: {}", SocketAddr::new(*address, *port), words(*errno))]
    Bind {
        /// The address.
        address: IpAddr,
        /// The port.
        port: u16,
        /// `tcp`, `udp`, `sctp`.
        protocol: String,
        /// The kernel's reason.
        errno: Errno,
    },
    /// Neither tcp, udp nor sctp.
    #[error("unknown protocol")]
    UnknownProtocol,
    /// The address is no IP address.
    #[error("invalid host address {0:?}")]
    BadAddress(String),
}

/// Go's words for the usual ones: clients search for them.
fn words(errno: Errno) -> String {
    match errno {
        Errno::ADDRINUSE => "address already in use".to_owned(),
        Errno::ADDRNOTAVAIL => "cannot assign requested address".to_owned(),
        Errno::ACCESS => "permission denied".to_owned(),
        Errno::PROTONOSUPPORT => "protocol not supported".to_owned(),
        other => other.to_string(),
    }
}

/// Chooses a port for each wish, all or none. `forwarded` are the ports that others have.
pub(crate) fn allocate(
    wishes: &[PortWish],
    mut forwarded: Forwarded,
) -> Result<Allocation, PortError> {
    let mut allocation = Allocation::default();
    for wish in wishes {
        let transport = Transport::of(&wish.protocol).ok_or(PortError::UnknownProtocol)?;
        let address = address(&wish.host_ip)?;
        let (port, socket) = if wish.first_host_port == 0 {
            any_port(transport, address, &forwarded)?
        } else {
            first_free(transport, address, wish, &forwarded)?
        };
        forwarded.add(address, port, transport.name);
        allocation.sockets.push(socket);
        allocation.mappings.push(PortMapping {
            host_port: port,
            container_port: wish.container_port,
            protocol: transport.name.to_owned(),
            host_ip: address.to_string(),
        });
    }
    Ok(allocation)
}

fn address(text: &str) -> Result<IpAddr, PortError> {
    if text.is_empty() {
        return Ok(Ipv4Addr::UNSPECIFIED.into());
    }
    text.parse().map_err(|_| PortError::BadAddress(text.to_owned()))
}

/// The first port of the wish's range that is free.
fn first_free(
    transport: Transport,
    address: IpAddr,
    wish: &PortWish,
    forwarded: &Forwarded,
) -> Result<(u16, OwnedFd), PortError> {
    let last = wish.last_host_port.max(wish.first_host_port);
    let mut refusal = None;
    for port in wish.first_host_port..=last {
        if let Some(taken) = forwarded.conflict(address, port, transport.name) {
            refusal = refusal.or(Some(PortError::Allocated { address: taken, port }));
            continue;
        }
        match transport.bind(address, port) {
            Ok(socket) => return Ok((port, socket)),
            // What a program has may be free in the next number; what the kernel cannot do will not.
            Err(errno @ Errno::ADDRINUSE) => {
                refusal = Some(transport.refusal(address, port, errno));
            }
            Err(errno) => return Err(transport.refusal(address, port, errno)),
        }
    }
    let is_single = last == wish.first_host_port;
    Err(match refusal {
        Some(PortError::Allocated { .. }) if !is_single => PortError::AllAllocated,
        Some(refusal) => refusal,
        None => PortError::AllAllocated,
    })
}

/// A port that the kernel says is free, and that is not forwarded either.
fn any_port(
    transport: Transport,
    address: IpAddr,
    forwarded: &Forwarded,
) -> Result<(u16, OwnedFd), PortError> {
    let refused = |errno| transport.refusal(address, 0, errno);
    // Kept until there is one, or the kernel might give the same again.
    let mut passed_over = Vec::new();
    for _ in 0..TRIES {
        let socket = transport.bind(address, 0).map_err(refused)?;
        let bound = rustix::net::getsockname(&socket).map_err(refused)?;
        let port = SocketAddr::try_from(bound).map_or(0, |bound| bound.port());
        if forwarded.conflict(address, port, transport.name).is_none() {
            return Ok((port, socket));
        }
        passed_over.push(socket);
    }
    Err(PortError::AllAllocated)
}

/// A protocol, and what a socket of it is.
#[derive(Debug, Clone, Copy)]
struct Transport {
    name: &'static str,
    kind: SocketType,
    protocol: Protocol,
    /// Whether a bound socket keeps others off only when it listens.
    listens: bool,
}

const TRANSPORTS: [Transport; 3] = [
    Transport { name: "tcp", kind: SocketType::STREAM, protocol: ipproto::TCP, listens: true },
    Transport { name: "udp", kind: SocketType::DGRAM, protocol: ipproto::UDP, listens: false },
    Transport { name: "sctp", kind: SocketType::STREAM, protocol: ipproto::SCTP, listens: true },
];

impl Transport {
    fn of(name: &str) -> Option<Self> {
        TRANSPORTS.into_iter().find(|transport| transport.name.eq_ignore_ascii_case(name))
    }

    /// Binds a port, 0 for any that is free.
    fn bind(self, address: IpAddr, port: u16) -> rustix::io::Result<OwnedFd> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, self.kind, flags, Some(self.protocol))?;
        if self.listens {
            // Connections of the last user that are not forgotten yet are no obstacle; one that listens is.
            sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        rustix::net::bind(&socket, &SocketAddr::new(address, port))?;
        if self.listens {
            rustix::net::listen(&socket, BACKLOG)?;
        }
        Ok(socket)
    }

    fn refusal(self, address: IpAddr, port: u16, errno: Errno) -> PortError {
        PortError::Bind { address, port, protocol: self.name.to_owned(), errno }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn wish(protocol: &str, first: u16, last: u16) -> PortWish {
        PortWish {
            container_port: 80,
            protocol: protocol.into(),
            host_ip: "127.0.0.1".into(),
            first_host_port: first,
            last_host_port: last,
        }
    }

    fn refusal(wishes: &[PortWish], forwarded: &Forwarded) -> String {
        allocate(wishes, forwarded.clone()).unwrap_err().to_string()
    }

    #[test]
    fn any_port_is_one_that_can_be_listened_on_and_is_held() {
        for protocol in ["tcp", "udp"] {
            let allocation = allocate(&[wish(protocol, 0, 0)], Forwarded::default()).unwrap();
            let port = allocation.mappings[0].host_port;
            assert_ne!(port, 0);
            assert_eq!(allocation.mappings[0].host_ip, "127.0.0.1");
            let taken = |port| match protocol {
                "tcp" => TcpListener::bind(("127.0.0.1", port)).is_err(),
                _ => UdpSocket::bind(("127.0.0.1", port)).is_err(),
            };
            assert!(taken(port), "{protocol}");
            drop(allocation);
            assert!(!taken(port), "{protocol}");
        }
    }

    #[test]
    fn who_listens_is_in_the_way_of_one_and_passed_over_in_a_range() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = other.local_addr().unwrap().port();
        let text = refusal(&[wish("tcp", port, port)], &Forwarded::default());
        assert_eq!(
            text,
            format!("failed to bind host port 127.0.0.1:{port}/tcp: address already in use")
        );
        let range = allocate(&[wish("tcp", port, port.saturating_add(50))], Forwarded::default());
        assert!(range.unwrap().mappings[0].host_port > port);
        // Another protocol has ports of its own.
        assert!(allocate(&[wish("udp", port, port)], Forwarded::default()).is_ok());
    }

    #[test]
    fn other_containers_ports_are_taken_though_nobody_listens() {
        let free = allocate(&[wish("tcp", 0, 0)], Forwarded::default()).unwrap();
        let port = free.mappings[0].host_port;
        drop(free);
        let mut forwarded = Forwarded::default();
        forwarded.add(LOCAL, port, "tcp");
        assert_eq!(
            refusal(&[wish("tcp", port, port)], &forwarded),
            format!("Bind for 127.0.0.1:{port} failed: port is already allocated")
        );
        forwarded.add(LOCAL, port + 1, "tcp");
        assert_eq!(refusal(&[wish("tcp", port, port + 1)], &forwarded), "all ports are allocated");
    }

    #[test]
    fn two_wishes_do_not_get_the_same() {
        let free = allocate(&[wish("tcp", 0, 0)], Forwarded::default()).unwrap();
        let port = free.mappings[0].host_port;
        drop(free);
        let text =
            refusal(&[wish("tcp", port, port), wish("tcp", port, port)], &Forwarded::default());
        assert!(text.ends_with("port is already allocated"), "{text}");
    }

    #[test]
    fn what_the_host_does_not_have_is_named() {
        let foreign = PortWish { host_ip: "192.0.2.1".into(), ..wish("tcp", 80, 80) };
        assert_eq!(
            refusal(&[foreign], &Forwarded::default()),
            "failed to bind host port 192.0.2.1:80/tcp: cannot assign requested address"
        );
        assert_eq!(refusal(&[wish("icmp", 80, 80)], &Forwarded::default()), "unknown protocol");
    }
}
