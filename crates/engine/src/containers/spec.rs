//! Parts of [`super::ContainerSpec`], one file each.

pub mod networking;
