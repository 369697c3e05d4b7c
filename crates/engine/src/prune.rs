//! One prune of a kind at a time: what one counts the other would delete. Containers and networks share a turn, images and
//! volumes have theirs (moby `daemon/prune.go`, `daemon/volume/service/service.go`).

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

/// Whether a prune is under way.
#[derive(Debug, Default)]
pub struct Prunes {
    running: AtomicBool,
}

/// The right to prune; gives it back when dropped.
#[derive(Debug)]
pub(crate) struct PruneTurn<'a>(&'a Prunes);

impl Prunes {
    /// # Errors
    /// [`Error::PruneRunning`].
    pub(crate) fn begin(&self) -> Result<PruneTurn<'_>> {
        if self.running.swap(true, Ordering::AcqRel) {
            return Err(Error::PruneRunning);
        }
        Ok(PruneTurn(self))
    }
}

impl Drop for PruneTurn<'_> {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let prunes = Prunes::default();
        let turn = prunes.begin().unwrap();
        assert!(matches!(prunes.begin(), Err(Error::PruneRunning)));
        drop(turn);
        assert!(prunes.begin().is_ok());
    }
}
