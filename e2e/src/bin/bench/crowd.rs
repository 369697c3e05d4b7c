//! Many at once, each with a stopwatch.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use e2e::{Result, bail};

/// What takes longer needs no repetition before it is another side's turn.
const BURST: Duration = Duration::from_millis(50);

/// Milliseconds that `work` took, and its result.
///
/// # Errors
/// Those of `work`.
pub(crate) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let began = Instant::now();
    let result = work()?;
    Ok((milliseconds_since(began), result))
}

/// Milliseconds from then until now.
pub(crate) fn milliseconds_since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

/// Does `work` again and again, at most so many times, and no more once [`BURST`] has passed. Others were measured in
/// between: only the first time finds caches cold, which is not what a median shall tell.
///
/// # Errors
/// The first of `work`'s.
pub(crate) fn burst(most: usize, mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    let began = Instant::now();
    let mut samples = Vec::with_capacity(most);
    while samples.len() < most && (samples.is_empty() || began.elapsed() < BURST) {
        samples.push(timed(&mut work)?.0);
    }
    Ok(samples)
}

/// Does `work` for all of `members` at the same time, each on a thread of its own, and gathers their samples.
///
/// # Errors
/// The first of `work`'s.
pub(crate) fn at_once<T: Send>(
    members: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> Result<Vec<f64>> + Sync,
) -> Result<Vec<f64>> {
    let mut members: Vec<T> = members.into_iter().collect();
    if members.len() == 1 {
        return members.pop().map_or_else(|| Ok(Vec::new()), work);
    }
    let together = Barrier::new(members.len());
    let results: Vec<Result<Vec<f64>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = members
            .into_iter()
            .map(|member| {
                scope.spawn(|| {
                    together.wait();
                    work(member)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| bail!("a client panicked")))
            .collect()
    });
    let mut samples = Vec::new();
    for result in results {
        samples.extend(result?);
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_has_at_least_one_sample_and_ends_early_when_slow() {
        assert_eq!(burst(5, || Ok(())).unwrap().len(), 5);
        let slow = burst(5, || {
            std::thread::sleep(BURST);
            Ok(())
        });
        assert_eq!(slow.unwrap().len(), 1);
    }

    #[test]
    fn samples_of_all_are_gathered_and_an_error_of_one_is_the_error() {
        let mut all = at_once(1..=4_u32, |n| Ok(vec![f64::from(n); 2])).unwrap();
        all.sort_unstable_by(f64::total_cmp);
        assert_eq!(all, [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]);
        let failed = at_once(1..=4_u32, |n| if n == 3 { bail!("three") } else { Ok(vec![]) });
        assert_eq!(failed.unwrap_err().to_string(), "three");
    }
}
