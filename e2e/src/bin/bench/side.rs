//! One column of the table.

use e2e::Result;

use crate::clock::Clock;
use crate::rows::Measure;

/// Repeats one measurement: each call is one repetition and gives its samples in the row's unit. What it needs (running
/// containers, a stopped shim, open connections) it holds, and takes back when dropped.
pub(crate) type Probe<'a> = Box<dyn FnMut() -> Result<Vec<f64>> + Send + 'a>;

/// Something to be measured: a daemon, or what lies below one.
pub(crate) trait Side: Sync {
    /// What stands above its column.
    fn name(&self) -> &str;

    /// Creates containers until there are this many.
    ///
    /// # Errors
    /// When that is refused, or the time is over before.
    fn populate(&self, count: usize, clock: &Clock) -> Result<()>;

    /// What repeats a measurement, or `None` where there is nothing to compare. All sides prepare theirs at the same time.
    ///
    /// # Errors
    /// When it cannot be prepared.
    fn probe(&self, measure: Measure) -> Result<Option<Probe<'_>>>;
}
