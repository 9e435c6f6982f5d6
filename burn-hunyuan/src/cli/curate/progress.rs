//! Progress of a run, with rate and time left.

use std::{
    ops::ControlFlow,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use burn_hunyuan_curate::run::{Progress, Stage};
use indicatif::{ProgressBar, ProgressDrawTarget};

use crate::cli::watch;

/// One bar, for the stage that runs.
pub(super) struct Bars {
    quiet: bool,
    bar: Mutex<Option<(Stage, ProgressBar)>>,
}

impl Bars {
    /// Listens for interrupts from now on.
    pub fn new(quiet: bool) -> Self {
        watch::catch_interrupts();
        Self {
            quiet,
            bar: Mutex::default(),
        }
    }

    /// Moves the bar; breaks once the user has asked to stop.
    pub fn show(&self, progress: Progress) -> ControlFlow<()> {
        // A poisoned lock only means that drawing panicked once.
        let mut bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(&*bar, Some((stage, _)) if *stage == progress.stage) {
            if let Some((_, done)) = bar.take() {
                done.finish_and_clear();
            }
            *bar = Some((progress.stage, self.bar_for(progress.stage)));
        }
        if let Some((_, bar)) = &*bar {
            bar.set_length(progress.total);
            // News come from many threads, and an older one may come later.
            bar.set_position(progress.done.max(bar.position()));
        }
        watch::interrupted()
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        let mut bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bar)) = bar.take() {
            bar.finish_and_clear();
        }
    }

    fn bar_for(&self, stage: Stage) -> ProgressBar {
        if self.quiet {
            return ProgressBar::hidden();
        }
        let bytes = "{bytes}/{total_bytes} {bytes_per_sec}, {left} left";
        let (label, numbers) = match stage {
            Stage::Ingest => ("Reading files", bytes),
            Stage::Measure => ("Measuring clips", bytes),
            Stage::Plan => ("Comparing clips", "{pos}/{len} {per_sec}, {left} left"),
            Stage::Cut => ("Writing clips", "{pos}/{len} {per_sec}, {left} left"),
        };
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(watch::style(&format!("{{msg:<26}} {{wide_bar}} {numbers}")));
        bar.enable_steady_tick(Duration::from_secs(1));
        bar.with_message(label)
    }
}
