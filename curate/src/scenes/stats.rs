//! Statistics: what the detector measured, picture by picture.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::Position;

/// A table of measured values, one row a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// Names of the values, sorted.
    names: Vec<String>,
    /// By the picture's index.
    rows: BTreeMap<u64, (Position, Vec<Option<f64>>)>,
}

impl Stats {
    /// An empty table with a column for each of `names`.
    pub fn new(mut names: Vec<String>) -> Self {
        names.sort();
        Self {
            names,
            rows: BTreeMap::new(),
        }
    }

    /// Names of the values, sorted.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The rows in order of time, values in the order of [`Stats::names`].
    pub fn rows(&self) -> impl Iterator<Item = (Position, &[Option<f64>])> {
        self.rows
            .values()
            .map(|(position, values)| (*position, &values[..]))
    }

    /// Notes a value of the picture at `position`; one without a column is left out.
    pub fn set(&mut self, position: Position, name: &str, value: f64) {
        if let Some(column) = self.names.iter().position(|n| n == name) {
            let empty = || (position, vec![None; self.names.len()]);
            let (_, values) = self.rows.entry(position.index).or_insert_with(empty);
            values[column] = Some(value);
        }
    }

    /// Writes PySceneDetect's stats file: `Frame Number` from 1, `Timecode`, and the values in full;
    /// `None` where there is none.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write_csv(&self, out: impl Write) -> io::Result<()> {
        let mut csv = csv::Writer::from_writer(out);
        let names = self.names.iter().map(String::as_str);
        csv.write_record(["Frame Number", "Timecode"].into_iter().chain(names))?;
        for (position, values) in self.rows() {
            let number = (position.frame_number() + 1).to_string();
            let values = values
                .iter()
                .map(|value| value.map_or("None".into(), decimal));
            csv.write_record([number, position.timecode()].into_iter().chain(values))?;
        }
        csv.flush()
    }
}

/// A number as Python prints it: the shortest text that reads back the same.
fn decimal(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-4..1e16).contains(&size) {
        return format!("{value:?}");
    }
    // Rust writes 1.5e-5 for Python's 1.5e-05.
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => match exponent.strip_prefix('-') {
            Some(exponent) => format!("{digits}e-{exponent:0>2}"),
            None => format!("{digits}e+{exponent:0>2}"),
        },
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        for (value, text) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-12.345678901234567, "-12.345678901234567"),
            (0.0001, "0.0001"),
            (0.000015, "1.5e-05"),
            (1e16, "1e+16"),
            (1.25e-120, "1.25e-120"),
        ] {
            assert_eq!(decimal(value), text);
        }
    }
}
