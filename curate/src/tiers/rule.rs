//! One condition on one column.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    config,
    range::within,
    tables::{self, Column, Kind, Row},
};

/// One condition on one column. A clip without a value fails every rule but `absent`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// The stage that the rule belongs to: the line of the funnel in which its rejects are counted.
    pub stage: String,
    /// The column of `clips.parquet` or `images.parquet`.
    pub column: String,
    /// The number is at least this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The number is at most this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// The flag is this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is: Option<bool>,
    /// The text is one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_of: Option<Vec<String>>,
    /// There is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent: Option<bool>,
}

impl Rule {
    /// Whether the row passes.
    pub fn passes(&self, row: &Row) -> bool {
        let value = row.get(&self.column).unwrap_or(&Value::Null);
        if let Some(absent) = self.absent {
            return value.is_null() == absent;
        }
        if let (None, None) = (self.min, self.max) {
            let is = self.is.is_none() || value.as_bool() == self.is;
            let named = |names: &Vec<String>| names.iter().any(|name| value == name.as_str());
            return is && self.one_of.as_ref().is_none_or(named);
        }
        value.as_f64().is_some_and(|number| {
            self.min.is_none_or(|min| number >= min) && self.max.is_none_or(|max| number <= max)
        })
    }

    /// What the rule asks for: `motion_speed at least 0.02`.
    pub fn demand(&self) -> String {
        let mut parts = vec![];
        if let Some(min) = self.min {
            parts.push(format!("at least {}", tables::short(min)));
        }
        if let Some(max) = self.max {
            parts.push(format!("at most {}", tables::short(max)));
        }
        if let Some(is) = self.is {
            parts.push(is.to_string());
        }
        if let Some(names) = &self.one_of {
            parts.push(format!("one of {}", names.join(", ")));
        }
        match self.absent {
            Some(true) => parts.push("absent".into()),
            Some(false) => parts.push("present".into()),
            None => {}
        }
        format!("{} {}", self.column, parts.join(" and "))
    }

    /// Why a row fails: `motion_speed is 0.003, not at least 0.02`.
    pub fn reason(&self, row: &Row) -> String {
        let value = tables::display(row.get(&self.column).unwrap_or(&Value::Null));
        let demand = self.demand();
        let demand = demand.split_once(' ').map_or("", |(_, demand)| demand);
        format!("{} is {value}, not {demand}", self.column)
    }

    /// What is wrong with the rule itself, if anything.
    pub(super) fn fault(&self, columns: &[Column]) -> Option<String> {
        let Some(column) = columns.iter().find(|column| column.name == self.column) else {
            let names = columns.iter().map(|column| column.name);
            let suggestion = config::nearest(&self.column, names);
            let suggestion = suggestion.map(|name| format!("; did you mean `{name}`?"));
            return Some(format!(
                "there is no column `{}`{}",
                self.column,
                suggestion.unwrap_or_default()
            ));
        };
        if column.of_tiers {
            return Some(format!(
                "no rule can go by `{}`: it is decided when the rules have been asked",
                self.column
            ));
        }
        for (key, bound) in [("min", self.min), ("max", self.max)] {
            if let Some(bound) = bound
                && let Err(fault) = within(key, bound, ..)
            {
                return Some(format!("in the rule on `{}`, {fault}", self.column));
            }
        }
        if let (Some(min), Some(max)) = (self.min, self.max)
            && min > max
        {
            return Some(format!(
                "nothing passes the rule on `{}`: min is {min}, above max, which is {max}",
                self.column
            ));
        }
        let numeric = matches!(column.kind, Kind::Number | Kind::Integer);
        let bounds = self.min.is_some() || self.max.is_some();
        let checks = [
            (bounds, numeric, "min and max"),
            (self.is.is_some(), column.kind == Kind::Flag, "is"),
            (self.one_of.is_some(), column.kind == Kind::Text, "one_of"),
            (self.absent.is_some(), true, "absent"),
        ];
        let used = || checks.iter().filter(|(used, ..)| *used);
        match (used().count(), used().find(|(_, fits, _)| !fits)) {
            (1, None) => None,
            (1, Some((.., check))) => Some(format!(
                "`{check}` does not fit `{}`, which holds {}",
                self.column, column.kind
            )),
            _ => Some(format!(
                "the rule on `{}` needs exactly one of min/max, is, one_of, absent",
                self.column
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column::new("speed", Kind::Number, ""),
        Column::new("consent", Kind::Flag, ""),
        Column::new("licence", Kind::Text, ""),
    ];

    fn rule(text: &str) -> Rule {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn bounds_are_inclusive_and_nothing_fails() {
        let rows = [
            (serde_json::json!(0.1), true),
            (serde_json::json!(0.25), true),
            (serde_json::json!(0.3), true),
            (serde_json::json!(0.099), false),
            (serde_json::json!(0.301), false),
            (serde_json::json!(null), false),
        ];
        let rule = rule("column = 'speed'\nmin = 0.1\nmax = 0.3");
        for (speed, expected) in rows {
            let row = tables::row(&serde_json::json!({"speed": speed}));
            assert_eq!(rule.passes(&row), expected, "{row:?}");
        }
        assert!(!rule.passes(&Row::new()));
    }

    #[test]
    fn flags_texts_and_absence() {
        let row = tables::row(&serde_json::json!({"consent": true, "licence": "MIT"}));
        for (text, passes) in [
            ("column = 'consent'\nis = true", true),
            ("column = 'consent'\nis = false", false),
            ("column = 'other'\nis = false", false),
            ("column = 'licence'\none_of = ['CC0-1.0', 'MIT']", true),
            ("column = 'licence'\none_of = ['CC0-1.0']", false),
            ("column = 'other'\none_of = ['CC0-1.0']", false),
            ("column = 'licence'\nabsent = true", false),
            ("column = 'licence'\nabsent = false", true),
            ("column = 'other'\nabsent = true", true),
        ] {
            assert_eq!(rule(text).passes(&row), passes, "{text}");
        }
    }

    #[test]
    fn reasons_give_value_and_threshold() {
        let row = tables::row(&serde_json::json!({"speed": 0.012_345_6, "consent": null}));
        let slow = rule("column = 'speed'\nmin = 0.1");
        assert_eq!(slow.demand(), "speed at least 0.1");
        assert_eq!(slow.reason(&row), "speed is 0.01235, not at least 0.1");
        let unasked = rule("column = 'consent'\nis = true");
        assert_eq!(unasked.reason(&row), "consent is nothing, not true");
    }

    #[test]
    fn faults_are_told() {
        for (text, part) in [
            ("column = 'sped'\nmin = 1", "did you mean `speed`?"),
            ("column = 'speed'", "exactly one of"),
            ("column = 'speed'\nmin = 1\nabsent = true", "exactly one of"),
            (
                "column = 'speed'\nis = true",
                "`is` does not fit `speed`, which holds numbers",
            ),
            (
                "column = 'licence'\nmax = 2",
                "`min and max` does not fit `licence`",
            ),
            (
                "column = 'consent'\none_of = ['x']",
                "does not fit `consent`",
            ),
            (
                "column = 'speed'\nmin = 3\nmax = 1",
                "min is 3, above max, which is 1",
            ),
            (
                "column = 'speed'\nmax = nan",
                "max is NaN; it has to be finite",
            ),
        ] {
            let fault = rule(text).fault(&COLUMNS).unwrap();
            assert!(fault.contains(part), "{fault}");
        }
        assert_eq!(rule("column = 'speed'\nmax = 2").fault(&COLUMNS), None);
    }

    #[test]
    fn rules_go_by_what_is_known_before_them() {
        for (column, check) in [
            ("tier", "absent = true"),
            ("stage", "absent = true"),
            ("reason", "absent = true"),
            ("weight", "min = 1"),
            ("file", "absent = false"),
            ("file_error", "absent = true"),
        ] {
            let fault = rule(&format!("column = '{column}'\n{check}")).fault(&tables::CLIPS);
            assert!(
                fault.unwrap().contains("when the rules have been asked"),
                "{column}"
            );
        }
        let known = rule("column = 'duplicate_cosine'\nmax = 0.99");
        assert_eq!(known.fault(&tables::CLIPS), None);
    }
}
