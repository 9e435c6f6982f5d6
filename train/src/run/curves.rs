//! The numbers of a run's log, by name.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A number over the steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// As the log has it.
    pub name: String,
    /// Steps and values, finite ones only.
    pub points: Vec<(u64, f64)>,
}

/// All that a log holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curves {
    /// Numbers of the steps, the loss first, in the order in which the log has them.
    pub steps: Vec<Curve>,
    /// Numbers of the evaluations.
    pub evaluations: Vec<Curve>,
    /// Steps that were skipped, and why.
    pub skipped: Vec<(u64, String)>,
    /// The last step.
    pub last: u64,
}

impl Curves {
    /// Reads a `log.jsonl`. A last line that is cut short, as of a run that is under way, is left
    /// out.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("read", path))?;
        let mut curves = Self::default();
        for line in BufReader::new(file).lines() {
            let line = line.map_err(Error::io("read", path))?;
            if let Ok(Value::Object(record)) = serde_json::from_str(&line) {
                curves.add(&record);
            }
        }
        // The order of JSON's keys is the alphabet's.
        for curves in [&mut curves.steps, &mut curves.evaluations] {
            curves.sort_by_key(|curve| curve.name != "loss");
        }
        Ok(curves)
    }

    fn add(&mut self, record: &Map<String, Value>) {
        let Some(step) = record.get("step").and_then(Value::as_u64) else {
            return;
        };
        self.last = self.last.max(step);
        if let Some(reason) = record.get("skipped").and_then(Value::as_str) {
            self.skipped.push((step, reason.to_string()));
        }
        let curves = match record.contains_key("evaluation") {
            true => &mut self.evaluations,
            false => &mut self.steps,
        };
        for (name, value) in record {
            if let (Some(value), false) = (value.as_f64(), name == "step") {
                push(curves, name, (step, value));
            }
        }
    }
}

fn push(curves: &mut Vec<Curve>, name: &str, point: (u64, f64)) {
    match curves.iter_mut().find(|curve| curve.name == name) {
        Some(curve) => curve.points.push(point),
        None => curves.push(Curve {
            name: name.to_string(),
            points: vec![point],
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_evaluations_and_skipped_steps_are_told_apart() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = r#"{"step":1,"kl":0.5,"loss":2.0,"seconds":0.1}
{"step":2,"kl":0.4,"loss":null,"skipped":"loss is NaN","seconds":0.1}
{"step":2,"loss":1.5,"psnr":20.0,"evaluation":true}
{"step":3,"kl":0.3,"lo"#;
        std::fs::write(file.path(), log).unwrap();
        let curves = Curves::read(file.path()).unwrap();
        let curve = |name: &str, points: &[(u64, f64)]| Curve {
            name: name.into(),
            points: points.into(),
        };
        let steps = [
            curve("loss", &[(1, 2.0)]),
            curve("kl", &[(1, 0.5), (2, 0.4)]),
            curve("seconds", &[(1, 0.1), (2, 0.1)]),
        ];
        assert_eq!(curves.steps, steps);
        let evaluations = [curve("loss", &[(2, 1.5)]), curve("psnr", &[(2, 20.0)])];
        assert_eq!(curves.evaluations, evaluations);
        assert_eq!(curves.skipped, [(2, "loss is NaN".to_string())]);
        assert_eq!(curves.last, 2);
    }
}
