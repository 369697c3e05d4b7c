//! Go's `omitempty`: when a value is too empty to be written; and `{}`, which is Go's `struct{}`.

use serde::{Deserialize, Serialize};

/// An object without keys, `{}`: the value of Docker's sets (`"ExposedPorts": {"80/tcp": {}}`).
///
/// Goes both ways: clients send it and get it back.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(default)]
pub struct Empty {}

/// Whether the value is Go's zero value: `0`, `false`, an empty text.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
