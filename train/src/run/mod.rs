//! A run: its folder, its loop, and what it does when something goes wrong.
//!
//! ```text
//! RUN/
//!   config.toml                the configuration with every default filled in
//!   log.jsonl                  one line of JSON a step
//!   log.txt                    the lines that were shown
//!   events.out.tfevents.…      the same numbers for TensorBoard
//!   checkpoints/step-00000500/ weights, averages, moments, state.json
//!   samples/step-00000500/     what the model does by then: clips, and a contact sheet
//! ```

mod changes;
mod checkpoint;
mod config;
mod curves;
mod event;
mod guard;
mod log;
mod tensorboard;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    files,
};
use guard::{Guard, Verdict};
use log::Log;

pub use checkpoint::{Checkpoint, CheckpointWriter, Checkpoints};
pub use config::RunConfig;
pub use curves::{Curve, Curves};
pub use event::{Event, Metrics};

/// What is trained: a model, its data and its optimizers.
///
/// Everything that is drawn at random in a step has to follow from the seed, the step, and what
/// [`save`](Self::save) keeps, so that a resumed run repeats the interrupted one.
pub trait Task {
    /// Which of `burn-hunyuan train`'s commands it belongs to. Checkpoints keep it: no other goes on
    /// with the run.
    fn kind(&self) -> &'static str;

    /// Lines to show before the first step.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Takes the next batch and computes its losses and gradients. The weights stay as they are.
    ///
    /// # Errors
    /// What ends the run. Losses that are not finite are no error.
    fn gradients(&mut self, step: u64) -> Result<Metrics>;

    /// Applies the gradients. It is not called where the run decides to skip the step.
    ///
    /// # Errors
    /// What ends the run.
    fn update(&mut self) -> Result<()>;

    /// The loss on held-out data, and whatever else is measured; `None` where there is none.
    ///
    /// # Errors
    /// What ends the run.
    fn evaluate(&mut self) -> Result<Option<Metrics>> {
        Ok(None)
    }

    /// Where it is due, writes into `folder` what the model can do after `step`, to be looked at;
    /// tells whether it was. The folder may have to be created.
    ///
    /// # Errors
    /// What is shown; the run goes on.
    fn sample(&mut self, _step: u64, _folder: &Path) -> Result<bool> {
        Ok(false)
    }

    /// Saves all that the next steps depend on.
    ///
    /// # Errors
    /// A file that cannot be written.
    fn save(&self, checkpoint: &mut CheckpointWriter) -> Result<()>;

    /// Takes up what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// A file that cannot be read or does not fit.
    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()>;
}

/// How a run ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// After its last step.
    Finished,
    /// On request after this step, which is saved.
    Stopped(u64),
}

/// A run in its folder, which no other run can open meanwhile.
pub struct Run {
    folder: PathBuf,
    /// Held until the run ends.
    _claim: Option<File>,
    config: RunConfig,
    /// The whole configuration, as TOML, and the one that a resumed run had so far.
    resolved: String,
    previous: Option<String>,
    checkpoints: Checkpoints,
    stop: Arc<AtomicBool>,
    watch: Box<dyn FnMut(Event)>,
}

impl Run {
    /// Opens `folder`, which is created, for a run of `config`; `resolved` is the whole
    /// configuration as TOML. With `resume` the folder has to hold a run, else it must not.
    ///
    /// # Errors
    /// A folder that holds a run and is not to be resumed, or the other way round; one in which
    /// another run is at work, or that cannot be written.
    pub fn open(folder: &Path, config: &RunConfig, resolved: &str, resume: bool) -> Result<Self> {
        config.validate()?;
        // To resume begins nothing: a folder that was mistyped is not created.
        if !resume {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        let claim = files::claim(folder)?;
        let checkpoints = folder.join("checkpoints");
        let refuse = |reason| Err(Error::file(folder, reason));
        match (resume, Checkpoints::exist_in(&checkpoints)?) {
            (false, true) => {
                return refuse(
                    "this folder holds a run; give --resume to go on, or another folder",
                );
            }
            (true, false) => {
                return refuse("there is no run here to resume; leave out --resume to begin one");
            }
            _ => (),
        }
        let path = folder.join(CONFIG);
        // A run that was killed before its first step may have none.
        let previous = (resume && path.exists()).then(|| fs::read_to_string(&path));
        let previous = previous.transpose().map_err(Error::io("read", &path))?;
        Ok(Self {
            folder: folder.to_path_buf(),
            _claim: claim,
            config: config.clone(),
            resolved: resolved.to_string(),
            previous,
            checkpoints: Checkpoints::open(&checkpoints, config.keep)?,
            stop: Arc::default(),
            watch: Box::new(|_| ()),
        })
    }

    /// Tells `watch` what happens, as it happens.
    pub fn on_event(mut self, watch: impl FnMut(Event) + 'static) -> Self {
        self.watch = Box::new(watch);
        self
    }

    /// Set this, as from a signal handler, to end the run after the step that is under way.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// Trains until the last step or a request to stop; either way everything is saved.
    ///
    /// Every run starts from a checkpoint: a new one writes its first before its first step, so
    /// that what cannot be saved is known by then, and reads it back.
    ///
    /// Nothing that a resumed run's folder holds is overwritten before the task has taken it up.
    ///
    /// # Errors
    /// A run of another [kind](Task::kind) or of another model; those of the task and of the files;
    /// [`Error::Diverged`].
    pub fn train(mut self, task: &mut dyn Task) -> Result<Outcome> {
        if self.checkpoints.latest()?.is_none() {
            self.save(task, &Progress::default())?;
        }
        let Some(checkpoint) = self.checkpoints.latest()? else {
            let reason = "the checkpoint that was just written is gone";
            return Err(Error::file(&self.folder, reason));
        };
        self.refuse_another_kind(task.kind(), &checkpoint)?;
        let changes = self.changes()?;
        task.restore(&checkpoint)?;
        files::replace(&self.folder.join(CONFIG), &self.resolved)?;
        let mut progress: Progress = checkpoint.state("run")?;
        let mut log = Log::open(&self.folder, progress.step)?;
        if progress.step > 0 {
            let past = Curves::read(&self.folder.join(LOG))?;
            (self.watch)(Event::Resumed(&past));
            let line = format!("resumed after step {}", progress.step);
            self.show(&mut log, &line)?;
        }
        for line in changes.into_iter().chain(task.notes()) {
            self.show(&mut log, &line)?;
        }

        let mut saved = Instant::now();
        while progress.step < self.config.steps {
            progress.step += 1;
            self.step(task, &mut progress, &mut log)?;
            let stop = self.stop.load(Ordering::Relaxed);
            let last = progress.step == self.config.steps;
            if stop || last || self.is_due(progress.step, saved.elapsed()) {
                self.save(task, &progress)?;
                progress.since_save = Mean::default();
                saved = Instant::now();
            }
            if stop && !last {
                let line = format!("stopped after step {}; saved", progress.step);
                self.show(&mut log, &line)?;
                return Ok(Outcome::Stopped(progress.step));
            }
            self.sample(task, progress.step, &mut log)?;
        }
        Ok(Outcome::Finished)
    }

    /// Refuses to go on with a run that another command began.
    fn refuse_another_kind(&self, kind: &str, checkpoint: &Checkpoint) -> Result<()> {
        // Checkpoints of earlier versions do not tell.
        let found: Option<String> = checkpoint.state(KIND)?;
        match found.filter(|found| found != kind) {
            None => Ok(()),
            Some(found) => {
                let reason = format!(
                    "this folder holds a run of `train {found}`, which `train {kind}` cannot go on \
                     with"
                );
                Err(Error::file(&self.folder, reason))
            }
        }
    }

    /// What a resumed run's configuration changes, in lines to show.
    fn changes(&self) -> Result<Vec<String>> {
        let changes = match &self.previous {
            None => Ok(Vec::new()),
            Some(previous) => changes::between(previous, &self.resolved),
        };
        changes.map_err(|reason| Error::file(self.folder.join(CONFIG), reason))
    }

    /// One step: gradients, the decision whether to use them, the update, the log.
    fn step(&mut self, task: &mut dyn Task, progress: &mut Progress, log: &mut Log) -> Result<()> {
        let (step, started) = (progress.step, Instant::now());
        let metrics = task.gradients(step)?;
        let verdict = progress.guard.judge(&metrics, &self.config);
        match &verdict {
            Verdict::Use => {
                task.update()?;
                progress.since_save.add(metrics.loss);
            }
            Verdict::Skip(reason) => {
                let line = format!("step {step} skipped: {reason}");
                self.show(log, &line)?;
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        log.step(step, &metrics, &verdict, seconds)?;
        (self.watch)(Event::Step {
            step,
            metrics: &metrics,
            seconds,
        });
        if step.is_multiple_of(self.config.log_every) || step == self.config.steps {
            let line = log::line(step, self.config.steps, &metrics, seconds);
            self.show(log, &line)?;
        }
        if let Verdict::Skip(reason) = verdict
            && progress.guard.skipped() >= self.config.max_skipped.max(1)
        {
            return Err(Error::Diverged {
                step,
                skipped: progress.guard.skipped(),
                reason,
            });
        }
        let every = self.config.evaluate_every;
        if every > 0
            && step.is_multiple_of(every)
            && let Some(metrics) = task.evaluate()?
        {
            progress.evaluation = Some(metrics.loss);
            log.evaluation(step, &metrics)?;
            let line = log::line(step, self.config.steps, &metrics, 0.0);
            self.show(log, &format!("held out: {line}"))?;
        }
        Ok(())
    }

    /// Samples that cannot be made are no reason to end a run.
    fn sample(&mut self, task: &mut dyn Task, step: u64, log: &mut Log) -> Result<()> {
        let folder = self.folder.join(samples_folder(step));
        let line = match task.sample(step, &folder) {
            Ok(false) => return Ok(()),
            Ok(true) => format!("samples: {}", folder.display()),
            Err(error) => format!("no samples after step {step}: {error}"),
        };
        self.show(log, &line)
    }

    fn is_due(&self, step: u64, since: Duration) -> bool {
        let (steps, minutes) = (self.config.save_every_steps, self.config.save_every_minutes);
        (steps > 0 && step.is_multiple_of(steps))
            || (minutes > 0.0 && since.as_secs_f64() > 60.0 * minutes)
    }

    fn save(&self, task: &dyn Task, progress: &Progress) -> Result<()> {
        let score = match self.config.evaluate_every {
            0 => progress.since_save.value(),
            _ => progress.evaluation,
        };
        let step = progress.step;
        let saved = self.checkpoints.save(step, score, |writer| {
            writer.state("run", progress)?;
            writer.state(KIND, task.kind())?;
            task.save(writer)
        });
        saved.map_err(|source| Error::Unsaved {
            step,
            source: Box::new(source),
        })
    }

    fn show(&mut self, log: &mut Log, line: &str) -> Result<()> {
        (self.watch)(Event::Line(line));
        log.text(line)
    }
}

/// The configuration, in a run's folder.
const CONFIG: &str = "config.toml";

/// What a checkpoint calls the task's [kind](Task::kind).
const KIND: &str = "kind";

/// The numbers of all steps, in a run's folder.
pub(crate) const LOG: &str = "log.jsonl";

/// Where the samples of a step are in a run's folder.
pub(crate) fn samples_folder(step: u64) -> PathBuf {
    Path::new(SAMPLES).join(format!("step-{step:08}"))
}

/// The folder of all samples.
pub(crate) const SAMPLES: &str = "samples";

/// Where a run is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Progress {
    /// Steps done, skipped ones included.
    step: u64,
    guard: Guard,
    /// The latest loss on held-out data.
    evaluation: Option<f64>,
    /// The loss since the last checkpoint, which tells the best one where nothing is held out.
    #[serde(skip)]
    since_save: Mean,
}

/// A mean of what was added.
#[derive(Clone, Debug, Default)]
struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}
