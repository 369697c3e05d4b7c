//! Parts of [`super::ContainerSpec`], one file each.

pub mod confinement;
pub mod links;
pub mod mounts;
pub mod networking;
pub mod upkeep;
