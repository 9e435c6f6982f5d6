//! `burn-hunyuan bench compare`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::Args;
use indicatif::HumanBytes;
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use serde::Serialize;

use super::{Report, print};
use crate::{
    device,
    error::{Error, Result},
};

#[derive(Debug, Args)]
pub(super) struct Compare {
    /// The devices; the others are compared with the first [default: all of this build except
    /// software adapters]
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    devices: Vec<String>,
    /// The folder for table.md, report.json and chart.svg
    #[arg(long, value_name = "DIR", default_value = "bench-compare")]
    output: PathBuf,
    /// The component and its options, as `bench` takes them; the options above go before it
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        default_value = "vae-decode"
    )]
    workload: Vec<String>,
}

/// A device and what became of the work there.
#[derive(Serialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Report(Box<Report>),
    Failed(String),
}

impl Row {
    /// Does the work in a process of its own: memory counts from nothing, and where a driver
    /// aborts, the other devices still run.
    fn measure(name: String, workload: &[String]) -> Result<Self> {
        let start = |source| Error::Unusable(format!("cannot start this program again: {source}"));
        let program = std::env::current_exe().map_err(start)?;
        let run = Command::new(program)
            .arg("bench")
            .args(workload)
            .args(["--device", &name])
            .stdin(Stdio::null())
            .output()
            .map_err(start)?;
        let told = String::from_utf8_lossy(&run.stderr);
        let outcome = match serde_json::from_slice(&run.stdout) {
            Ok(report) if run.status.success() => Outcome::Report(report),
            _ => Outcome::Failed(format!("{}: {}", run.status, told.trim())),
        };
        Ok(Self { name, outcome })
    }

    fn report(&self) -> Option<&Report> {
        match &self.outcome {
            Outcome::Report(report) => Some(report),
            Outcome::Failed(_) => None,
        }
    }
}

impl Compare {
    pub fn run(self) -> Result<()> {
        let ours = |argument: &&String| {
            let name = argument.split('=').next();
            matches!(name, Some("--device" | "--devices" | "--output"))
        };
        if let Some(option) = self.workload.iter().find(ours) {
            return Err(Error::Request(format!(
                "{option} after the component is not for `compare`; the devices and the folder are \
                 named before it: bench compare --devices flex,wgpu --output DIR {} …",
                self.workload[0]
            )));
        }
        let mut names = self.devices.clone();
        if names.is_empty() {
            let real = device::list().into_iter().filter(|d| !d.software_adapter);
            names = real.map(|device| device.name).collect();
        }
        let mut rows = Vec::new();
        for name in names {
            eprintln!("{name}");
            rows.push(Row::measure(name, &self.workload)?);
        }
        if rows.iter().any(|row| row.report().is_some()) {
            self.write(&rows)?;
        }
        let reason = |row: &Row| match &row.outcome {
            Outcome::Failed(reason) => Some(format!("{}: {reason}", row.name)),
            Outcome::Report(_) => None,
        };
        let failed: Vec<String> = rows.iter().filter_map(reason).collect();
        if failed.is_empty() {
            return Ok(());
        }
        Err(Error::Unusable(format!(
            "these devices failed\n{}",
            failed.join("\n")
        )))
    }

    /// Writes the files, and the table to the standard output.
    fn write(&self, rows: &[Row]) -> Result<()> {
        let title = format!("burn-hunyuan bench {}", self.workload.join(" "));
        let table = table(rows);
        let json = serde_json::to_string_pretty(&serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "workload": self.workload,
            "devices": rows,
        }));
        let json = json.map_err(|e| Error::Unusable(e.to_string()))?;
        let chart = chart(&title, rows)
            .map_err(|e| Error::Unusable(format!("the chart cannot be drawn: {e}")))?;
        fs::create_dir_all(&self.output).map_err(|e| unwritable(&self.output, &e))?;
        for (name, text) in [
            ("table.md", format!("`{title}`\n\n{table}\n")),
            ("report.json", format!("{json}\n")),
            ("chart.svg", chart),
        ] {
            let path = self.output.join(name);
            fs::write(&path, text).map_err(|e| unwritable(&path, &e))?;
        }
        print(table)
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::Unusable(format!("cannot write {}: {error}", path.display()))
}

/// A table in Markdown.
fn table(rows: &[Row]) -> String {
    let first = rows.first().and_then(Row::report);
    let first = first.map(|report| report.seconds.median);
    let memory = |bytes: Option<u64>| bytes.map_or("unknown".into(), |b| HumanBytes(b).to_string());
    let line = |row: &Row| {
        let name = &row.name;
        let Some(report) = row.report() else {
            return format!("| {name} | | failed | | | | |");
        };
        let median = report.seconds.median;
        let speed = first.map_or(String::new(), |first| format!("{:.2}", first / median));
        format!(
            "| {name} | {} | {median:.3} s | {speed} | {:.1} | {} | {} |",
            report.device,
            report.flop_per_second / 1e9,
            memory(report.peak_memory),
            memory(report.device_memory),
        )
    };
    let head = "| device | hardware | median | times as fast as the first | GFLOP/s \
                | peak host memory | device memory |";
    let rule = "| --- | --- | --- | --- | --- | --- | --- |";
    let lines = [head.to_string(), rule.to_string()];
    let lines: Vec<String> = lines.into_iter().chain(rows.iter().map(line)).collect();
    lines.join("\n")
}

/// Width of the chart, and height of a device's bar with its space, in pixels.
const WIDTH: u32 = 720;
const BAR: u32 = 34;
const COLOR: RGBColor = RGBColor(0x4c, 0x78, 0xa8);

/// A bar for each device, as long as its median time, as SVG.
fn chart(title: &str, rows: &[Row]) -> std::result::Result<String, Box<dyn std::error::Error>> {
    let count = rows.len();
    let seconds = |row: &Row| row.report().map(|report| report.seconds.median);
    let longest = rows.iter().filter_map(seconds).fold(0.0, f64::max);
    let mut svg = String::new();
    {
        let area =
            SVGBackend::with_string(&mut svg, (WIDTH, 70 + BAR * count as u32)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .margin_right(80) // Room for the number of the longest bar.
            .caption(title, ("sans-serif", 15))
            .x_label_area_size(30)
            .y_label_area_size(90)
            .build_cartesian_2d(0.0..longest.max(1e-9), 0.0..count.max(1) as f64)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .y_labels(0)
            .light_line_style(WHITE)
            .x_desc("seconds, median")
            .draw()?;
        let label = ("sans-serif", 14).into_font().color(&BLACK);
        let beside = |side| label.pos(Pos::new(side, VPos::Center));
        for (i, row) in rows.iter().enumerate() {
            // From the top down.
            let middle = (count - i) as f64 - 0.5;
            let length = seconds(row);
            let told = length.map_or("failed".into(), |length| format!(" {length:.3} s"));
            let length = length.unwrap_or(0.0);
            let bar = [(0.0, middle - 0.35), (length, middle + 0.35)];
            chart.draw_series([Rectangle::new(bar, COLOR.filled())])?;
            chart.draw_series([Text::new(told, (length, middle), beside(HPos::Left))])?;
            let (x, y) = chart.backend_coord(&(0.0, middle));
            area.draw(&Text::new(
                row.name.clone(),
                (x - 6, y),
                beside(HPos::Right),
            ))?;
        }
        area.present()?;
    }
    Ok(svg)
}
