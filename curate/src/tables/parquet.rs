//! Rows in Parquet files.

use std::{collections::BTreeMap, fs::File, path::Path, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::Compression,
    file::properties::WriterProperties,
};
use serde_json::Value;

use super::{Column, Kind, Row};
use crate::{Error, Result, run::output};

/// Writes a table; it appears under its name only when it is whole.
///
/// Values under names that are no columns are left out; absent values are null.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, columns: &[Column], rows: &[Row]) -> Result<()> {
    let failed = |error: String| Error::Unusable {
        path: path.into(),
        problem: format!("the table cannot be written: {error}"),
    };
    let fields = columns.iter().map(|column| {
        let described = BTreeMap::from([("description", column.meaning)]);
        let described = described.into_iter().map(|(k, v)| (k.into(), v.into()));
        Field::new(column.name, column.kind.into(), true).with_metadata(described.collect())
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let arrays = columns.iter().map(|column| array(*column, rows)).collect();
    let batch = RecordBatch::try_new(schema.clone(), arrays);
    let batch = batch.map_err(|error| failed(error.to_string()))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .build();
    let mut bytes = Vec::new();
    let written =
        ArrowWriter::try_new(&mut bytes, schema, Some(properties)).and_then(|mut file| {
            file.write(&batch)?;
            file.close()
        });
    written.map_err(|error| failed(error.to_string()))?;
    output::write(path, &bytes)
}

fn array(column: Column, rows: &[Row]) -> ArrayRef {
    let values = rows.iter().map(|row| row.get(column.name));
    match column.kind {
        Kind::Text => {
            let texts: StringArray = values.map(|v| v.and_then(Value::as_str)).collect();
            Arc::new(texts)
        }
        Kind::Integer => {
            let numbers: Int64Array = values.map(|v| v.and_then(Value::as_i64)).collect();
            Arc::new(numbers)
        }
        Kind::Number => {
            let numbers: Float64Array = values.map(|v| v.and_then(Value::as_f64)).collect();
            Arc::new(numbers)
        }
        Kind::Flag => {
            let flags: BooleanArray = values.map(|v| v.and_then(Value::as_bool)).collect();
            Arc::new(flags)
        }
    }
}

impl From<Kind> for DataType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Utf8,
            Kind::Integer => Self::Int64,
            Kind::Number => Self::Float64,
            Kind::Flag => Self::Boolean,
        }
    }
}

/// Reads a table that [`write`](fn@write) wrote.
///
/// # Errors
/// If there is no such file or it is no such table.
pub fn read(path: &Path) -> Result<Vec<Row>> {
    let file = File::open(path).map_err(|source| Error::File {
        action: "read",
        path: path.into(),
        source,
    })?;
    let failed = |error: String| Error::Unusable {
        path: path.into(),
        problem: format!("not a table of a curation run: {error}"),
    };
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(|error| failed(error.to_string()))?;
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|error| failed(error.to_string()))?;
        rows.extend((0..batch.num_rows()).map(|row| row_of(&batch, row)));
    }
    Ok(rows)
}

fn row_of(batch: &RecordBatch, row: usize) -> Row {
    let schema = batch.schema();
    let named = schema.fields().iter().zip(batch.columns());
    named
        .map(|(field, array)| (field.name().clone(), value(array, row)))
        .collect()
}

fn value(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    let array = array.as_any();
    if let Some(texts) = array.downcast_ref::<StringArray>() {
        Value::from(texts.value(row))
    } else if let Some(numbers) = array.downcast_ref::<Int64Array>() {
        Value::from(numbers.value(row))
    } else if let Some(numbers) = array.downcast_ref::<Float64Array>() {
        Value::from(numbers.value(row))
    } else if let Some(flags) = array.downcast_ref::<BooleanArray>() {
        Value::from(flags.value(row))
    } else {
        Value::Null
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::new("name", Kind::Text, "a name"),
        Column::new("count", Kind::Integer, "how many"),
        Column::new("share", Kind::Number, "how much"),
        Column::new("good", Kind::Flag, "whether"),
    ];

    fn rows() -> Vec<Row> {
        let values = [
            serde_json::json!({"name": "ä", "count": -3, "share": 0.1, "good": true}),
            serde_json::json!({"name": null, "count": 1_i64 << 60, "share": 1e-300, "good": false}),
            serde_json::json!({"name": "", "count": null, "share": null, "good": null}),
        ];
        values.iter().map(super::super::row).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        write(&path, &COLUMNS, &rows()).unwrap();
        assert_eq!(read(&path).unwrap(), rows());
        let bytes = std::fs::read(&path).unwrap();
        write(&path, &COLUMNS, &rows()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "the same bytes again");
    }

    #[test]
    fn an_empty_table_is_a_table() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        write(&path, &COLUMNS, &[]).unwrap();
        assert_eq!(read(&path).unwrap(), Vec::<Row>::new());
    }

    #[test]
    fn another_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        assert!(read(&path).unwrap_err().to_string().contains("t.parquet"));
        std::fs::write(&path, "PAR1 but no more").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("not a table"));
    }
}
