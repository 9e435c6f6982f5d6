//! Progress of a run, with rate and time left.

use std::{
    fmt,
    ops::ControlFlow,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use burn_hunyuan_curate::run::{Progress, Stage};
use indicatif::{
    HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};

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
        let (label, in_bytes) = match stage {
            Stage::Ingest => ("Reading files", true),
            Stage::Measure => ("Measuring clips", true),
            Stage::Plan => ("Comparing clips", false),
            Stage::Cut => ("Writing clips", false),
        };
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style(in_bytes));
        bar.enable_steady_tick(Duration::from_secs(1));
        bar.with_message(label)
    }
}

fn style(in_bytes: bool) -> ProgressStyle {
    let numbers = move |state: &ProgressState, text: &mut dyn fmt::Write| {
        let total = state.len().unwrap_or(0);
        // There is no rate in the very moment of the beginning.
        let rate = state.per_sec().max(0.0);
        // Writing to a string cannot fail.
        let _ = text.write_str(&numbers(state.pos(), total, rate, in_bytes));
    };
    watch::style("{msg:<26} {wide_bar} {numbers}").with_key("numbers", numbers)
}

/// How far a stage is, how much it does a second, and how long it will take at this rate.
fn numbers(done: u64, total: u64, per_second: f64, in_bytes: bool) -> String {
    let far = match in_bytes {
        true => format!(
            "{}/{} {}/s",
            HumanBytes(done),
            HumanBytes(total),
            HumanBytes(per_second as u64)
        ),
        false => format!("{done}/{total} {per_second:.1}/s"),
    };
    // Before the first step there is nothing to estimate from.
    let left = Duration::try_from_secs_f64(total.saturating_sub(done) as f64 / per_second);
    match left {
        Ok(left) => format!("{far}, {:#} left", HumanDuration(left)),
        Err(_) => format!("{far}, ? left"),
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use indicatif::TermLike;

    use super::*;

    #[test]
    fn rate_and_time_left_follow_from_what_is_done() {
        let shown = |done, total, rate, in_bytes| numbers(done, total, rate, in_bytes);
        // 90 at 0.5 a second are 180 seconds.
        assert_eq!(shown(30, 120, 0.5, false), "30/120 0.5/s, 3m left");
        assert_eq!(shown(5, 7205, 2.0, false), "5/7205 2.0/s, 60m left");
        assert_eq!(shown(120, 120, 7.25, false), "120/120 7.2/s, 0s left");
        // 3 GiB at 1.5 MiB a second are 2048 seconds, 34 minutes.
        let gib = 1 << 30;
        assert_eq!(
            shown(gib, 4 * gib, 1.5 * 1048576.0, true),
            "1.00 GiB/4.00 GiB 1.50 MiB/s, 34m left"
        );
        for rate in [0.0, f64::MIN_POSITIVE] {
            assert!(shown(0, 8, rate, false).ends_with("/s, ? left"), "{rate}");
        }
    }

    /// Keeps what is drawn.
    #[derive(Clone, Debug, Default)]
    struct Screen(Arc<Mutex<String>>);

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            100
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_stage_shows_its_line() {
        let bars = Bars {
            quiet: false,
            bar: Mutex::default(),
        };
        let stages = [
            (Stage::Ingest, "Reading files", "1.50 KiB/2.00 KiB"),
            (Stage::Measure, "Measuring clips", "1.50 KiB/2.00 KiB"),
            (Stage::Plan, "Comparing clips", "1536/2048"),
            (Stage::Cut, "Writing clips", "1536/2048"),
        ];
        for (stage, label, far) in stages {
            let screen = Screen::default();
            let show = |done| {
                let total = 2048;
                assert!(bars.show(Progress { stage, done, total }).is_continue());
            };
            show(0);
            if let Some((_, bar)) = &*bars.bar.lock().unwrap() {
                bar.set_draw_target(ProgressDrawTarget::term_like(Box::new(screen.clone())));
            }
            show(1536);
            // Late news of another thread.
            show(1024);
            if let Some((_, bar)) = &*bars.bar.lock().unwrap() {
                // Draws whatever was drawn shortly before.
                bar.abandon();
            }
            let drawn = screen.0.lock().unwrap();
            assert!(drawn.contains(label), "{drawn}");
            let (_, last) = drawn.rsplit_once(far).unwrap();
            assert!(last.contains("/s, ") && last.contains(" left"), "{drawn}");
        }
        bars.clear();
        assert!(bars.bar.lock().unwrap().is_none());
    }
}
