//! The tables in the hands of others.

use std::{fs, path::Path, process::Command};

use burn_hunyuan_curate::tables::{self, CLIPS, Row, SOURCES};

use crate::common;

/// A row with a value in every column.
fn full_row() -> Row {
    let value = |kind| match kind {
        tables::Kind::Text => serde_json::json!("ä, \"b\""),
        tables::Kind::Integer => serde_json::json!(1_i64 << 40),
        tables::Kind::Number => serde_json::json!(0.1),
        tables::Kind::Flag => serde_json::json!(true),
    };
    let columns = CLIPS.iter();
    columns
        .map(|column| (column.name.to_string(), value(column.kind)))
        .collect()
}

#[test]
fn pyarrow_reads_the_tables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clips.parquet");
    tables::write(&path, &CLIPS, &[full_row(), Row::new()]).unwrap();
    let program = "
import sys, pyarrow.parquet as parquet
table = parquet.read_table(sys.argv[1])
for field in table.schema:
    print(field.name, field.type, field.metadata[b'description'].decode(), sep='|')
full, empty = table.to_pylist()
assert set(empty.values()) == {None}, empty
print(full['caption'], full['pictures'], full['seconds'], full['consent'], sep='|')
";
    let python = std::env::var("BURN_HUNYUAN_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let pyarrow = Command::new(&python)
        .args(["-c", "import pyarrow"])
        .output();
    if !pyarrow.is_ok_and(|output| output.status.success()) {
        common::report(&format!(
            "pyarrow_reads_the_tables skipped: {python} has no pyarrow"
        ));
        return;
    }
    let output = Command::new(&python)
        .args(["-c", program])
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let mut lines = said.lines();
    for column in CLIPS.iter() {
        let kind = match column.kind {
            tables::Kind::Text => "string",
            tables::Kind::Integer => "int64",
            tables::Kind::Number => "double",
            tables::Kind::Flag => "bool",
        };
        let expected = format!("{}|{kind}|{}", column.name, column.meaning);
        assert_eq!(lines.next(), Some(expected.as_str()));
    }
    assert_eq!(lines.next(), Some("ä, \"b\"|1099511627776|0.1|True"));
}

/// The tables in docs/curation.md name every column as it is.
#[test]
fn the_documentation_has_every_column() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/curation.md");
    let docs = fs::read_to_string(docs).unwrap();
    let (before, clips) = docs
        .split_once("`clips.parquet`; `images.parquet`")
        .unwrap();
    for (part, columns) in [(before, &SOURCES), (clips, &CLIPS)] {
        let lines = part.lines().filter_map(|line| line.strip_prefix("| `"));
        let named: Vec<_> = lines
            .filter_map(|line| line.split_once("` | "))
            .filter_map(|(name, rest)| {
                Some((name, rest.split_once(" | ")?.1.trim_end_matches(" |")))
            })
            .collect();
        let expected: Vec<_> = columns.iter().map(|c| (c.name, c.meaning)).collect();
        // The part before the columns has other tables.
        assert_eq!(
            named[named.len().saturating_sub(expected.len())..],
            expected
        );
    }
}
