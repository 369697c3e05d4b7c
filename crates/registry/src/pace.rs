//! How slow another side may be before it is as good as one that hangs up.

use std::time::Duration;

use crate::error::Interruption;

/// At least so many bytes must go through in [`SLOWEST_TIME`] of waiting for them.
const SLOWEST_BYTES: u64 = 256 * 1024;
const SLOWEST_TIME: Duration = Duration::from_secs(5 * 60);

/// What went through lately, and how long we waited for it; how long our caller takes does not count.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Bytes.
    pub(crate) bytes: u64,
    /// Time of waiting.
    pub(crate) waited: Duration,
}

impl Pace {
    /// Takes in a chunk, or some progress.
    pub(crate) fn keeps_up(&mut self, bytes: u64, waited: Duration) -> Result<(), Interruption> {
        self.bytes += bytes;
        self.waited += waited;
        if self.bytes >= SLOWEST_BYTES {
            *self = Self::default();
        }
        if self.waited < SLOWEST_TIME { Ok(()) } else { Err(Interruption::Slow(SLOWEST_TIME)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_do_not_make_a_transfer() {
        let minute = Duration::from_secs(60);
        let mut pace = Pace::default();
        let drops = (0..9).take_while(|_| pace.keeps_up(1, minute).is_ok()).count();
        assert_eq!(drops, 4);
        let mut pace = Pace::default();
        assert!((0..9).all(|_| pace.keeps_up(SLOWEST_BYTES / 2, minute).is_ok()));
    }
}
