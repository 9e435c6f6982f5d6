//! What a run writes down as it goes.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use super::{LOG, Metrics, guard::Verdict, tensorboard::EventFile};
use crate::{
    error::{Error, Result},
    files,
};

/// The log files of a run. Every line is written whole before the next step.
pub(super) struct Log {
    text: LogFile,
    steps: LogFile,
    events: EventFile,
}

impl Log {
    /// Opens the logs of a run that goes on after `step`; lines of later steps, whose work was
    /// lost, are removed.
    ///
    /// # Errors
    /// A folder that cannot be written, a log that cannot be read.
    pub fn open(folder: &Path, step: u64) -> Result<Self> {
        let steps = folder.join(LOG);
        drop_later_steps(&steps, step)?;
        Ok(Self {
            text: LogFile::append(folder.join("log.txt"))?,
            steps: LogFile::append(steps)?,
            events: EventFile::create(folder, step)?,
        })
    }

    /// A line for people.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn text(&mut self, line: &str) -> Result<()> {
        self.text.line(line)
    }

    /// The numbers of a step.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn step(
        &mut self,
        step: u64,
        metrics: &Metrics,
        verdict: &Verdict,
        seconds: f64,
    ) -> Result<()> {
        let mut line = record(step, metrics);
        if let Verdict::Skip(reason) = verdict {
            line.insert("skipped".into(), json!(reason));
        }
        line.insert("seconds".into(), json!(seconds));
        self.steps.line(&Value::from(line).to_string())?;
        self.scalars(step, "train", metrics)
    }

    /// The numbers of an evaluation.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn evaluation(&mut self, step: u64, metrics: &Metrics) -> Result<()> {
        let mut line = record(step, metrics);
        line.insert("evaluation".into(), json!(true));
        self.steps.line(&Value::from(line).to_string())?;
        self.scalars(step, "evaluation", metrics)
    }

    fn scalars(&mut self, step: u64, group: &str, metrics: &Metrics) -> Result<()> {
        self.events
            .scalar(step, &format!("{group}/loss"), metrics.loss)?;
        for (name, value) in &metrics.terms {
            self.events
                .scalar(step, &format!("{group}/{name}"), *value)?;
        }
        Ok(())
    }
}

/// Step, loss and terms; NaN becomes null, which JSON has.
fn record(step: u64, metrics: &Metrics) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("step".into(), json!(step));
    line.insert("loss".into(), json!(metrics.loss));
    for (name, value) in &metrics.terms {
        line.insert((*name).into(), json!(value));
    }
    line
}

/// A step for people.
pub(super) fn line(step: u64, steps: u64, metrics: &Metrics, seconds: f64) -> String {
    let mut line = format!("step {step}/{steps}  loss {:.5}", metrics.loss);
    for (name, value) in &metrics.terms {
        line += &format!("  {name} {value:.3e}");
    }
    if seconds > 0.0 {
        line += &format!("  {seconds:.2} s");
    }
    line
}

/// A file of lines.
struct LogFile {
    path: PathBuf,
    file: File,
}

impl LogFile {
    fn append(path: PathBuf) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(Error::io("write", &path))?;
        Ok(Self { path, file })
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let written = self.file.write_all(format!("{line}\n").as_bytes());
        written.map_err(Error::io("write", &self.path))
    }
}

/// Keeps the lines up to `step`. A last line that a crash cut short goes too.
fn drop_later_steps(path: &Path, step: u64) -> Result<()> {
    let Ok(file) = File::open(path) else {
        return Ok(());
    };
    let mut kept = String::new();
    for line in BufReader::new(file).lines() {
        let line = line.map_err(Error::io("read", path))?;
        let of = serde_json::from_str::<Value>(&line).ok();
        let of = of.and_then(|line| line["step"].as_u64());
        if of.is_some_and(|of| of <= step) {
            kept += &line;
            kept.push('\n');
        }
    }
    files::replace(path, kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_were_lost_leave_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(folder.path(), 0).unwrap();
        for step in 1..=4 {
            let metrics = Metrics::new(step as f64).with("lr", 0.5);
            log.step(step, &metrics, &Verdict::Use, 0.1).unwrap();
        }
        let path = folder.path().join("log.jsonl");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"step\": 2, \"lo").unwrap();
        let mut log = Log::open(folder.path(), 2).unwrap();
        let skip = Verdict::Skip("loss is NaN".into());
        log.step(3, &Metrics::new(f64::NAN), &skip, 0.1).unwrap();
        let lines: Vec<Value> = std::fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let steps: Vec<_> = lines.iter().map(|line| line["step"].as_u64()).collect();
        assert_eq!(steps, [Some(1), Some(2), Some(3)]);
        assert_eq!(lines[1]["loss"], 2.0);
        assert_eq!(lines[1]["lr"], 0.5);
        assert_eq!(lines[2]["skipped"], "loss is NaN");
        assert!(lines[2]["loss"].is_null());
    }
}
