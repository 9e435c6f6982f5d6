//! How far a run is, and many hands for it.

use std::{
    ops::{ControlFlow, Range},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use crate::{Error, Result};

/// A part of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Files are read and hashed; counted in bytes.
    Ingest,
    /// Sources are decoded and their clips measured; counted in bytes of their files.
    Measure,
    /// Duplicates, concepts and tiers are found; counted in clips and images.
    Plan,
    /// Kept clips are written; counted in clips.
    Cut,
}

/// How far a stage is. Comes from many threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The stage.
    pub stage: Stage,
    /// What is done, in the stage's measure.
    pub done: u64,
    /// What there is to do.
    pub total: u64,
}

/// Hears of progress and can stop the run.
pub type Observer<'a> = &'a (dyn Fn(Progress) -> ControlFlow<()> + Sync);

/// Adds up the progress of a stage over all threads.
pub(crate) struct Meter<'a> {
    observer: Observer<'a>,
    stage: Stage,
    done: AtomicU64,
    total: u64,
}

impl<'a> Meter<'a> {
    pub fn new(observer: Observer<'a>, stage: Stage, total: u64) -> Self {
        let done = AtomicU64::new(0);
        Self {
            observer,
            stage,
            done,
            total,
        }
    }

    /// Tells the observer that `more` is done.
    pub fn add(&self, more: u64) -> ControlFlow<()> {
        let done = self.done.fetch_add(more, Ordering::Relaxed) + more;
        let (stage, total) = (self.stage, self.total.max(done));
        (self.observer)(Progress { stage, done, total })
    }
}

/// Tells the observer how much of a part of a stage is done, as of a file.
pub(crate) struct Told<'a> {
    meter: &'a Meter<'a>,
    whole: u64,
    told: u64,
}

impl<'a> Told<'a> {
    /// A part of which nothing is done. `whole` is in the stage's measure.
    pub fn new(meter: &'a Meter<'a>, whole: u64) -> Self {
        let told = 0;
        Self { meter, whole, told }
    }

    /// A share of the part is done, between 0 and 1.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where the observer stops the run.
    pub fn share(&mut self, share: f64) -> Result<()> {
        // Of a share between 0 and 1, so the conversion holds.
        let done = (self.whole as f64 * share.clamp(0.0, 1.0)) as u64;
        let more = done.saturating_sub(self.told);
        self.told += more;
        match self.meter.add(more).is_break() {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }

    /// All of the part is done.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where the observer stops the run.
    pub fn all(&mut self) -> Result<()> {
        self.share(1.0)
    }

    /// Hears of work in numbers that add up to at most `most`, which is this range of shares.
    pub fn within(&mut self, shares: Range<f64>, most: u64) -> impl FnMut(u64) -> Result<()> {
        let mut done = 0;
        move |more| {
            done += more;
            let share = done as f64 / most as f64;
            self.share(shares.start + (shares.end - shares.start) * share)
        }
    }
}

/// The results of `work` on each item, in the items' order, by `jobs` threads at a time. After an
/// error no further item is begun.
///
/// # Errors
/// The first error in the items' order among those met.
pub(crate) fn in_parallel<T: Sync, R: Send>(
    jobs: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, Result<R>)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                while let Some((index, item)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    items.get(index).map(|item| (index, item))
                } {
                    let result = work(item);
                    if result.is_err() {
                        next.store(items.len(), Ordering::Relaxed);
                    }
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.push((index, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_on_any_number_of_threads() {
        let items: Vec<u64> = (0..100).collect();
        let squares: Vec<u64> = items.iter().map(|n| n * n).collect();
        for jobs in [0, 1, 3, 200] {
            assert_eq!(in_parallel(jobs, &items, |n| Ok(n * n)).unwrap(), squares);
        }
    }

    #[test]
    fn an_error_stops_the_rest() {
        let items: Vec<u64> = (0..1000).collect();
        let begun = AtomicU64::new(0);
        let result = in_parallel(2, &items, |n| {
            begun.fetch_add(1, Ordering::Relaxed);
            match n {
                5 => Err(Error::Interrupted),
                _ => Ok(()),
            }
        });
        assert!(matches!(result, Err(Error::Interrupted)));
        assert!(begun.into_inner() < 1000);
    }

    #[test]
    fn a_meter_adds_up() {
        let last = AtomicU64::new(0);
        let observer = |progress: Progress| {
            last.fetch_max(progress.done, Ordering::Relaxed);
            assert!(progress.done <= progress.total);
            ControlFlow::Continue(())
        };
        let meter = Meter::new(&observer, Stage::Cut, 100);
        in_parallel(4, &[1_u64; 120], |n| Ok(meter.add(*n))).unwrap();
        assert_eq!(last.into_inner(), 120);
    }

    #[test]
    fn parts_are_told_by_their_shares() {
        let heard = Mutex::new(Vec::new());
        let observer = |progress: Progress| {
            let mut heard = heard.lock().unwrap();
            heard.push(progress.done);
            match heard.len() {
                9 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        };
        let meter = Meter::new(&observer, Stage::Plan, 300);
        let mut first = Told::new(&meter, 100);
        first.share(0.0).unwrap();
        // Four of at most five.
        let mut four = [1; 4].into_iter();
        four.try_for_each(first.within(0.0..0.5, 5)).unwrap();
        first.within(0.5..1.0, 4)(1).unwrap();
        first.share(0.1).unwrap();
        first.all().unwrap();
        let mut second = Told::new(&meter, 200);
        assert!(matches!(second.share(0.25), Err(Error::Interrupted)));
        let heard = heard.into_inner().unwrap();
        assert_eq!(heard, [0, 10, 20, 30, 40, 62, 62, 100, 150]);
    }
}
