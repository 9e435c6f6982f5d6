//! The tables of a run: sources, clips and images, one row each.
//!
//! A table is rows of named values under a fixed list of [`Column`]s, stored as Apache Parquet. The
//! same rows, in the same order, give the same bytes.

mod columns;
mod parquet;
#[cfg(feature = "sql")]
mod sql;

use serde::Serialize;
use serde_json::{Map, Value};

pub use columns::{CLIPS, Column, IMAGES, Kind, SOURCES};
pub use parquet::{read, write};
#[cfg(feature = "sql")]
pub use sql::query;

/// One row: values by column name. A value that is not known is null.
pub type Row = Map<String, Value>;

/// The row of a structure: nested fields become `outer_inner`.
pub fn row(of: &impl Serialize) -> Row {
    let mut row = Row::new();
    // A structure of plain values always serialises.
    if let Ok(Value::Object(fields)) = serde_json::to_value(of) {
        flatten("", fields, &mut row);
    }
    row
}

fn flatten(prefix: &str, fields: Map<String, Value>, row: &mut Row) {
    for (name, value) in fields {
        match value {
            Value::Object(inner) => flatten(&format!("{prefix}{name}_"), inner, row),
            value => {
                row.insert(format!("{prefix}{name}"), value);
            }
        }
    }
}

/// The text in a column; empty where there is none.
pub fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row.get(column).and_then(Value::as_str).unwrap_or_default()
}

/// The number in a column.
pub fn number(row: &Row, column: &str) -> Option<f64> {
    row.get(column).and_then(Value::as_f64)
}

/// A value as people read it: numbers to four significant digits.
pub fn display(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => short(number.as_f64().unwrap_or(f64::NAN)),
        other => other.to_string(),
    }
}

/// A number to four significant digits, without an exponent.
pub fn short(number: f64) -> String {
    if number == 0.0 || !number.is_finite() {
        return number.to_string();
    }
    let magnitude = number.abs().log10().floor();
    // At most 12 digits behind the point, so the conversion holds.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let places = (3.0 - magnitude).clamp(0.0, 12.0) as usize;
    let text = format!("{number:.places$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').into(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_fields_become_columns() {
        let value =
            serde_json::json!({"id": "a", "motion": {"speed": 0.5, "camera": {"pan": null}}});
        let row = row(&value);
        let names: Vec<&String> = row.keys().collect();
        assert_eq!(names, ["id", "motion_camera_pan", "motion_speed"]);
        assert_eq!(number(&row, "motion_speed"), Some(0.5));
        assert_eq!(text(&row, "id"), "a");
        assert_eq!(number(&row, "motion_camera_pan"), None);
    }

    #[test]
    fn numbers_are_short() {
        for (number, expected) in [
            (0.0, "0"),
            (0.001_234_56, "0.001235"),
            (-12.0, "-12"),
            (123_456.7, "123457"),
            (0.5, "0.5"),
            (2.000_01, "2"),
        ] {
            assert_eq!(short(number), expected);
        }
    }
}
