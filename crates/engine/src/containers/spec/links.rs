//! What create is asked for about names beside the container's own.

use std::collections::BTreeMap;

/// Links and aliases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Containers on the default bridge that it calls by other names, and cannot start without.
    pub links: Vec<LinkWish>,
    /// Per network, as typed.
    pub endpoints: BTreeMap<String, EndpointNames>,
}

/// Names in one network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointNames {
    /// By which others find it there.
    pub aliases: Vec<String>,
    /// What it alone calls others there, whether they exist or not.
    pub links: Vec<LinkWish>,
}

/// Another container, and what it is to be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkWish {
    /// As typed.
    pub container: String,
    /// A word.
    pub alias: String,
}
