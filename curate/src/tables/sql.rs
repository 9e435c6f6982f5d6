//! Questions to the tables in SQL.

use std::path::Path;

use datafusion::{
    error::DataFusionError,
    prelude::{ParquetReadOptions, SessionConfig, SessionContext},
};

use crate::{Error, Result};

const TABLES: [&str; 3] = ["sources", "clips", "images"];

/// The answer to `question`, drawn as a table.
///
/// `clips`, `images` and `sources` are the tables of the run in `folder`, in `DataFusion`'s
/// dialect of SQL. Only reading is possible.
///
/// # Errors
/// If the folder holds no run, or the question cannot be answered; with `DataFusion`'s words.
pub fn query(folder: &Path, question: &str) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::File {
            action: "start a runtime for",
            path: folder.into(),
            source,
        })?;
    runtime
        .block_on(answer(folder, question))
        .map_err(|error| match error {
            Failure::Folder(error) => error,
            Failure::Question(error) => Error::Request(failure(&error.to_string())),
        })
}

/// Why a question cannot be answered; where it asks for what is not there, with the tables that are.
fn failure(why: &str) -> String {
    // What DataFusion puts before the name of a table that has no catalogue and no schema.
    let why = why.replace("datafusion.public.", "");
    let tables = match why.contains("not found") {
        true => format!("; the tables are {}", TABLES.join(", ")),
        false => String::new(),
    };
    format!("the question fails: {why}{tables}")
}

enum Failure {
    Folder(Error),
    Question(DataFusionError),
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Self {
        Self::Question(error)
    }
}

async fn answer(folder: &Path, question: &str) -> Result<String, Failure> {
    // Rows in the order in which they stand, whatever the machine's number of cores.
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    for table in TABLES {
        let path = folder.join(format!("{table}.parquet"));
        if !path.is_file() {
            let problem = "there is no such table; is this the output folder of a finished \
                           `burn-hunyuan curate`?";
            let problem = problem.into();
            return Err(Failure::Folder(Error::Unusable { path, problem }));
        }
        context
            .register_parquet(table, path.to_string_lossy(), ParquetReadOptions::default())
            .await?;
    }
    let options = datafusion::execution::context::SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    let answer = context.sql_with_options(question, options).await?;
    Ok(answer.to_string().await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{CLIPS, IMAGES, Row, SOURCES, row, write};

    fn run() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let clip = |id: &str, tier: Option<&str>, seconds: f64| {
            row(&serde_json::json!({"id": id, "source": "s", "tier": tier, "seconds": seconds}))
        };
        let clips = [
            clip("a", Some("256p"), 2.0),
            clip("b", Some("720p"), 3.0),
            clip("c", Some("256p"), 4.5),
            clip("d", None, 1.0),
        ];
        let sources = [row(&serde_json::json!({"id": "s", "name": "film.mp4"}))];
        let none: [Row; 0] = [];
        for (table, columns, rows) in [
            ("clips", &CLIPS, clips.as_slice()),
            ("images", &IMAGES, none.as_slice()),
            ("sources", &SOURCES, sources.as_slice()),
        ] {
            let path = folder.path().join(format!("{table}.parquet"));
            write(&path, columns, rows).unwrap();
        }
        folder
    }

    /// The cells of an answer, row after row, without its frame.
    fn cells(answer: &str) -> Vec<Vec<String>> {
        let rows = answer.lines().filter(|line| line.starts_with('|')).skip(1);
        rows.map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().to_string()).collect()
        })
        .collect()
    }

    #[test]
    fn clips_are_counted_by_tier() {
        let folder = run();
        let question = "SELECT tier, count(*), sum(seconds) FROM clips GROUP BY tier ORDER BY tier";
        let answer = query(folder.path(), question).unwrap();
        let expected = [["256p", "2", "6.5"], ["720p", "1", "3.0"], ["", "1", "1.0"]];
        assert_eq!(cells(&answer), expected, "{answer}");
    }

    #[test]
    fn tables_can_be_joined() {
        let folder = run();
        let question = "SELECT name, clips.id FROM clips JOIN sources ON source = sources.id \
                        WHERE round(clips.seconds) > 2 ORDER BY clips.id";
        let answer = query(folder.path(), question).unwrap();
        assert_eq!(
            cells(&answer),
            [["film.mp4", "b"], ["film.mp4", "c"]],
            "{answer}"
        );
        let answer = query(folder.path(), "SELECT count(*) FROM images").unwrap();
        assert_eq!(cells(&answer), [["0"]], "{answer}");
    }

    #[test]
    fn what_cannot_be_answered_says_why() {
        let folder = run();
        let refused = |question: &str| query(folder.path(), question).unwrap_err().to_string();
        let wrong_column = refused("SELECT colour FROM clips");
        assert!(wrong_column.contains("colour") && wrong_column.contains("clips.seconds"));
        let wrong_table = refused("SELECT id FROM clip");
        assert!(
            wrong_table.ends_with("table 'clip' not found; the tables are sources, clips, images"),
            "{wrong_table}"
        );
        assert!(refused("SELECT id FORM clips").contains("the question fails"));
        let empty = tempfile::tempdir().unwrap();
        let file = empty.path().join("clips.csv").display().to_string();
        for (question, why) in [
            ("DROP TABLE clips", "DDL"),
            ("SET datafusion.execution.batch_size = 1", "Statement"),
            ("INSERT INTO clips SELECT * FROM clips", "DML"),
            ("CREATE TABLE copy AS SELECT * FROM clips", "DDL"),
            (
                format!("CREATE EXTERNAL TABLE f STORED AS CSV LOCATION '{file}'").as_str(),
                "DDL",
            ),
            (format!("COPY clips TO '{file}'").as_str(), "DML"),
            (
                format!("EXPLAIN ANALYZE COPY clips TO '{file}'").as_str(),
                "DML",
            ),
            (
                format!("SELECT 1; COPY clips TO '{file}'").as_str(),
                "single SQL statement",
            ),
            (format!("SELECT * FROM '{file}'").as_str(), "not found"),
        ] {
            let error = refused(question);
            assert!(error.contains(why), "{question}: {error}");
        }
        assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
        let error = query(empty.path(), "SELECT 1").unwrap_err().to_string();
        assert!(
            error.contains("sources.parquet") && error.contains("curate"),
            "{error}"
        );
    }
}
