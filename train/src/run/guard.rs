//! Which steps are not to be applied.

use serde::{Deserialize, Serialize};

use super::{Metrics, RunConfig};

/// Steps after which the mean is trusted to tell a spike.
const SETTLED: u64 = 20;

/// Steps that the mean looks back on.
const WINDOW: u64 = 100;

/// What is to become of a step.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Its gradients are applied.
    Use,
    /// They are not, for this reason.
    Skip(String),
}

/// Watches the losses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Guard {
    /// The mean of the latest accepted losses.
    mean: f64,
    /// Losses accepted, up to [`WINDOW`].
    seen: u64,
    /// Steps skipped since the last accepted one.
    skipped: u64,
}

impl Guard {
    /// Skipped steps in a row.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Decides about a step.
    pub fn judge(&mut self, metrics: &Metrics, config: &RunConfig) -> Verdict {
        match self.fault(metrics, config.spike_factor) {
            Some(reason) => {
                self.skipped += 1;
                Verdict::Skip(reason)
            }
            None => {
                self.skipped = 0;
                self.seen = (self.seen + 1).min(WINDOW);
                self.mean += (metrics.loss - self.mean) / self.seen as f64;
                Verdict::Use
            }
        }
    }

    fn fault(&self, metrics: &Metrics, factor: f64) -> Option<String> {
        let mut named = std::iter::once(("loss", metrics.loss)).chain(metrics.terms.clone());
        if let Some((name, value)) = named.find(|(_, value)| !value.is_finite()) {
            return Some(format!("{name} is {value}"));
        }
        let spike = factor > 0.0 && self.seen >= SETTLED && self.mean > 0.0;
        (spike && metrics.loss > factor * self.mean).then(|| {
            let (loss, mean) = (metrics.loss, self.mean);
            format!("loss {loss:.4} is a spike over the recent mean of {mean:.4}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_and_spikes_are_skipped_and_leave_the_mean_alone() {
        let (mut guard, config) = (Guard::default(), RunConfig::default());
        let mut judge = |metrics| guard.judge(&metrics, &config);
        let skipped = |verdict| matches!(verdict, Verdict::Skip(_));
        assert_eq!(judge(Metrics::new(50.0)), Verdict::Use); // no spike yet: nothing to compare with
        for _ in 0..200 {
            assert_eq!(judge(Metrics::new(1.0)), Verdict::Use);
        }
        assert!(skipped(judge(Metrics::new(f64::NAN))));
        assert!(skipped(judge(Metrics::new(1.0).with("kl", f64::INFINITY))));
        assert!(skipped(judge(Metrics::new(30.0))));
        assert!(skipped(judge(Metrics::new(30.0))));
        assert_eq!(guard.skipped(), 4);
        assert_eq!(guard.judge(&Metrics::new(5.0), &config), Verdict::Use);
        assert_eq!(guard.skipped(), 0);
    }
}
