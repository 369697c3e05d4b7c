//! What many measurements of one thing say.

/// A summary of samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stats {
    /// Half of the samples are not above it.
    pub(crate) median: f64,
    /// Nineteen of twenty samples are not above it; the largest of fewer.
    pub(crate) p95: f64,
    /// How many there were.
    pub(crate) count: usize,
}

impl Stats {
    /// The summary, or `None` of nothing.
    pub(crate) fn of(mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_unstable_by(f64::total_cmp);
        let count = samples.len();
        let upper = *samples.get(count / 2)?;
        let median =
            if count % 2 == 1 { upper } else { f64::midpoint(samples[count / 2 - 1], upper) };
        // The smallest sample that 95 of 100 do not exceed: the nearest rank, rounded up.
        let p95 = samples[(count * 95).div_ceil(100) - 1];
        Some(Self { median, p95, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_no_summary() {
        assert_eq!(Stats::of(vec![]), None);
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two() {
        assert_eq!(Stats::of(vec![3.0, 1.0, 2.0]).unwrap().median, 2.0);
        assert_eq!(Stats::of(vec![4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
    }

    #[test]
    fn few_samples_have_their_largest_as_p95_and_many_do_not() {
        assert_eq!(Stats::of(vec![7.0]).unwrap(), Stats { median: 7.0, p95: 7.0, count: 1 });
        let hundred = (1..=100).map(f64::from).collect();
        assert_eq!(Stats::of(hundred).unwrap().p95, 95.0);
        let twenty = (1..=20).map(f64::from).collect();
        assert_eq!(Stats::of(twenty).unwrap().p95, 19.0);
    }
}
