//! How long a run is, and what it keeps.

use serde::{Deserialize, Serialize};

use crate::error::{Result, require};

/// Section `[run]` of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Number of steps.
    pub steps: u64,
    /// Decides weights, noise, order: everything that is drawn.
    pub seed: u64,
    /// Save a checkpoint every so many steps. 0: never by steps.
    pub save_every_steps: u64,
    /// Save a checkpoint every so many minutes. 0: never by time.
    pub save_every_minutes: f64,
    /// Checkpoints kept: the latest so many, and the best.
    pub keep: usize,
    /// Evaluate on held-out data every so many steps. 0: never.
    pub evaluate_every: u64,
    /// Show a line every so many steps.
    pub log_every: u64,
    /// A step whose loss is above this many times the recent mean is skipped. 0: none is.
    pub spike_factor: f64,
    /// Skipped steps in a row after which the run stops.
    pub max_skipped: u64,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            steps: 1000,
            seed: 0,
            save_every_steps: 500,
            save_every_minutes: 10.0,
            keep: 3,
            evaluate_every: 0,
            log_every: 10,
            spike_factor: 10.0,
            max_skipped: 10,
        }
    }
}

impl RunConfig {
    /// Refuses values that cannot be meant.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with the field's name.
    pub fn validate(&self) -> Result<()> {
        require(&[
            (self.steps > 0, "run.steps has to be above 0"),
            (self.keep > 0, "run.keep has to be above 0"),
            (self.log_every > 0, "run.log_every has to be above 0"),
            (
                self.save_every_minutes >= 0.0,
                "run.save_every_minutes has to be 0 or more",
            ),
            (
                self.spike_factor == 0.0 || self.spike_factor > 1.0,
                "run.spike_factor has to be 0 or above 1",
            ),
        ])
    }
}
