//! Parts of [`super::ContainerSpec`], one file each.

pub mod mounts;
pub mod networking;
