//! Progress bars, the interrupt key, and the summary at the end.

use std::{
    fmt,
    ops::ControlFlow,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use burn::tensor::Device;
use indicatif::{
    HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};

use crate::{
    error::{Error, Result},
    pipeline::{Pipeline, Progress, Stage},
    video,
};

/// Interrupts (Ctrl-C, SIGTERM) seen so far.
static INTERRUPTS: AtomicU64 = AtomicU64::new(0);

/// What a run that looks at a flag of its own is stopped by.
static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Watches a pipeline: draws its progress, times its stages, stops it on an interrupt.
#[derive(Clone)]
pub(super) struct Watch {
    state: Arc<Mutex<State>>,
}

struct State {
    quiet: bool,
    device: Device,
    bar: Option<(Stage, ProgressBar)>,
    times: Vec<(Stage, Duration)>,
    since: Instant,
    device_peak: u64,
    goes_on: bool,
}

impl Watch {
    /// Attaches to `pipeline`.
    pub fn attach(pipeline: Pipeline, quiet: bool) -> (Pipeline, Self) {
        catch_interrupts();
        let state = State {
            quiet,
            device: pipeline.device().clone(),
            bar: None,
            times: Vec::new(),
            since: Instant::now(),
            device_peak: 0,
            goes_on: false,
        };
        let watch = Self {
            state: Arc::new(Mutex::new(state)),
        };
        let observed = watch.clone();
        let pipeline = pipeline.with_observer(move |progress| {
            let mut state = observed.lock();
            state.advance(progress);
            match state.goes_on {
                true => ControlFlow::Continue(()),
                false => interrupted(),
            }
        });
        (pipeline, watch)
    }

    /// Breaks no more for an interrupt, so that what was done can be saved. The next one stops the
    /// program at once.
    pub fn go_on(&self) {
        self.lock().goes_on = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock only means that drawing panicked once; the numbers are still good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints the seconds of each stage and the peak memory, unless quiet.
    pub fn summarise(&self) {
        let state = self.lock();
        if state.quiet {
            return;
        }
        eprintln!();
        for (stage, time) in &state.times {
            eprintln!("{:<26}{:>9.2} s", stage.label(), time.as_secs_f64());
        }
        let total: Duration = state.times.iter().map(|(_, time)| *time).sum();
        eprintln!("{:<26}{:>9.2} s", "Total", total.as_secs_f64());
        if let Some(peak) = host_peak() {
            eprintln!("{:<26}{:>11}", "Peak memory", HumanBytes(peak).to_string());
        }
        if state.device_peak > 0 {
            let peak = HumanBytes(state.device_peak).to_string();
            eprintln!("{:<26}{peak:>11}", "Peak device memory");
        }
    }
}

impl State {
    fn advance(&mut self, progress: Progress) {
        let Progress { stage, done, total } = progress;
        if let Some(usage) = self.device.memory_pool_usage() {
            self.device_peak = self.device_peak.max(usage.bytes_reserved);
        }
        if !matches!(&self.bar, Some((current, _)) if *current == stage) || done == 0 {
            self.finish_bar();
            self.since = Instant::now();
            self.bar = Some((stage, self.new_bar(stage)));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
        }
        if done == total && total > 0 {
            let time = self.since.elapsed();
            match self.times.iter_mut().find(|(known, _)| *known == stage) {
                Some((_, sum)) => *sum += time,
                None => self.times.push((stage, time)),
            }
            self.finish_bar();
        }
    }

    fn new_bar(&self, stage: Stage) -> ProgressBar {
        if self.quiet {
            return ProgressBar::hidden();
        }
        let template = if stage.counts_bytes() {
            "{msg:<26} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {left} left"
        } else {
            "{msg:<26} {wide_bar} {pos}/{len} {elapsed}, {left} left"
        };
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style(template));
        // A step may take minutes; the time should move on all the same.
        bar.enable_steady_tick(Duration::from_secs(1));
        bar.with_message(stage.label())
    }

    fn finish_bar(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// A progress bar's look; the default one should the template ever be wrong.
pub(super) fn style(template: &str) -> ProgressStyle {
    let left = |state: &ProgressState, text: &mut dyn fmt::Write| {
        // There is nothing to estimate from before the first step. Writing to a string cannot fail.
        let _ = match state.pos() {
            0 => write!(text, "?"),
            _ => write!(text, "{:#}", HumanDuration(state.eta())),
        };
    };
    let style = ProgressStyle::with_template(template);
    style.map_or_else(
        |_| ProgressStyle::default_bar(),
        |style| style.with_key("left", left),
    )
}

/// Makes the first interrupt stop the work at the next opportunity, and the second at once.
pub(super) fn catch_interrupts() {
    // Fails only when a handler is there already, which then is this one.
    let _ = ctrlc::set_handler(|| {
        let earlier = INTERRUPTS.fetch_add(1, Ordering::SeqCst);
        if let Some(stop) = STOP.get() {
            return stop.store(true, Ordering::SeqCst);
        }
        if earlier > 0 {
            video::discard_unfinished();
            std::process::exit(1);
        }
        eprintln!("\nstopping at the end of this step; once more to stop at once");
    });
}

/// Makes every interrupt set `stop` from now on, however often it comes: the run saves what it has
/// before it ends.
#[cfg(feature = "train")]
pub(super) fn stop_on_interrupt(stop: Arc<AtomicBool>) {
    let stop = STOP.get_or_init(|| stop);
    catch_interrupts();
    // One that came before.
    if interrupted().is_break() {
        stop.store(true, Ordering::SeqCst);
    }
}

/// Breaks once the user has asked to stop.
pub(super) fn interrupted() -> ControlFlow<()> {
    match INTERRUPTS.load(Ordering::SeqCst) {
        0 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    }
}

/// A bar for bytes written or read, with nothing else beside it.
pub(super) fn byte_bar(what: &'static str, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(style(
        "{msg:<26} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {left} left",
    ));
    bar.with_message(what)
}

/// The largest amount of memory that this process has held, in bytes, where the system tells.
pub(super) fn host_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// What this process has used of the processor, all threads together, where the system tells.
pub(super) fn processor_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, may hold anything; user and system time are fields 14 and 15, in
    // hundredths of a second on every Linux.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks()? + ticks()?)))
}

/// Downloads a model from the hub, or finds it in the cache, with a progress bar.
#[cfg(feature = "hub")]
pub(super) fn download(id: &str, quiet: bool) -> Result<PathBuf> {
    use crate::checkpoint::hub;

    catch_interrupts();
    let bar = if quiet {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(0)
    };
    bar.set_style(style(
        "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {left} left",
    ));
    let folder = hub::fetch(id, &mut |progress| {
        bar.set_message(format!(
            "{} of {} {}",
            progress.index + 1,
            progress.files,
            progress.file
        ));
        bar.set_length(progress.total);
        bar.set_position(progress.bytes);
        interrupted()
    });
    bar.finish_and_clear();
    folder.map_err(Error::Hub)
}

/// Explains that this build downloads nothing; whatever is not there may be meant as a hub id.
#[cfg(not(feature = "hub"))]
pub(super) fn download(id: &str, _quiet: bool) -> Result<PathBuf> {
    Err(Error::Request(format!(
        "there is no file or folder `{id}`, and this build cannot download it; rebuild with \
         `--features hub`"
    )))
}
