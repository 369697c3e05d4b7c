//! Random bytes of the kernel.

use crate::{Error, Result};

/// `N` of them.
///
/// # Errors
/// [`Error::Failed`] on a kernel that has none.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|source| Error::failed("draw random bytes", source.to_string()))?;
    Ok(bytes)
}
