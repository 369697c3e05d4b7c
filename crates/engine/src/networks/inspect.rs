//! Inspect a network.

use super::Network;
use crate::{Engine, Error, Result};

impl Engine {
    /// The network that a full name, a full id or the start of an id means, in this order (moby
    /// `daemon/server/router/network/network_routes.go`, `getNetwork`).
    ///
    /// # Errors
    /// [`Error::NetworkNotFound`], [`Error::AmbiguousNetwork`], [`Error::NotLoaded`].
    pub async fn inspect_network(&self, typed: &str) -> Result<Network> {
        resolve(self.all_networks().await?, typed)
    }
}

fn resolve(all: Vec<Network>, typed: &str) -> Result<Network> {
    if let Some(exact) = all.iter().find(|network| network.name == typed || network.id == typed) {
        return Ok(exact.clone());
    }
    let mut matches: Vec<Network> =
        all.into_iter().filter(|network| network.id.starts_with(typed)).collect();
    match (matches.pop(), matches.len()) {
        (Some(only), 0) if !typed.is_empty() => Ok(only),
        (Some(_), more) if !typed.is_empty() => Err(Error::AmbiguousNetwork {
            typed: typed.to_owned(),
            matches: more + 1,
            basis: "ID prefix",
        }),
        _ => Err(Error::NetworkNotFound(typed.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn names_ids_and_their_beginnings() {
        let network = |name: &str, id: &str| Network {
            name: name.to_owned(),
            id: id.to_owned(),
            ..super::super::without_configuration("host", Path::new("/"))
        };
        let all = || vec![network("a", "ab12"), network("b", "ab34"), network("ab", "cd56")];
        let name = |typed: &str| resolve(all(), typed).map(|network| network.name);
        assert_eq!(name("a").unwrap(), "a");
        assert_eq!(name("ab").unwrap(), "ab", "a name goes before ids");
        assert_eq!(name("ab3").unwrap(), "b");
        assert_eq!(name("cd56").unwrap(), "ab");
        assert!(matches!(name(""), Err(Error::NetworkNotFound(_))));
        assert!(matches!(name("x"), Err(Error::NetworkNotFound(_))));
        let mut two = all();
        two.pop();
        assert!(matches!(resolve(two, "ab"), Err(Error::AmbiguousNetwork { matches: 2, .. })));
    }
}
