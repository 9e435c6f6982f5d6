//! Runs the program in a folder of its own and looks at what it did.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use safetensors::{
    Dtype, SafeTensors,
    tensor::{TensorView, serialize_to_file},
};
use tempfile::TempDir;

/// What a run leaves.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// An empty folder to run in.
pub struct Desk(TempDir);

impl Desk {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A run of the program with these arguments, split at spaces; `'` quotes.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_burn-hunyuan"));
        let quoted = arguments.split('\'').enumerate();
        command.args(quoted.flat_map(|(i, part)| match i % 2 {
            0 => part.split_whitespace().map(String::from).collect(),
            _ => vec![part.to_string()],
        }));
        command.current_dir(self.0.path()).stdin(Stdio::null());
        // Prompts are kept there.
        command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
        command
    }

    pub fn run(&self, arguments: &str) -> Outcome {
        Outcome::of(&mut self.command(arguments))
    }

    /// Generates with the built-in model, as small and short as can be.
    pub fn generate(&self, arguments: &str) -> Outcome {
        self.run(&format!("{GENERATE} {arguments}"))
    }

    /// The names of all files and folders, hidden ones included.
    pub fn names(&self) -> Vec<String> {
        names(self.0.path())
    }

    /// Writes one f32 tensor of the constant `value`.
    pub fn write_tensor(&self, file: &str, name: &str, shape: &[usize], value: f32) {
        let count = shape.iter().product();
        let bytes = value.to_le_bytes().repeat(count);
        let view = TensorView::new(Dtype::F32, shape.to_vec(), &bytes).unwrap();
        serialize_to_file([(name, view)], None, &self.path(file)).unwrap();
    }

    /// The tensors of a file, all of them f32: names and shapes.
    pub fn shapes(&self, file: &str) -> Vec<(String, Vec<usize>)> {
        let bytes = fs::read(self.path(file)).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let mut shapes: Vec<_> = tensors
            .iter()
            .map(|(name, view)| {
                assert_eq!(view.dtype(), Dtype::F32, "{name}");
                (name.to_string(), view.shape().to_vec())
            })
            .collect();
        shapes.sort();
        shapes
    }

    /// A copy of the fixture's pipeline folder, to be damaged.
    pub fn copy_pipeline(&self, name: &str) {
        copy(&fixture("pipeline/diffusers"), &self.path(name));
    }
}

/// The built-in model on the CPU, two steps of five frames.
pub const GENERATE: &str = "generate --device flex --size 32x48 --frames 5 --steps 2";

impl Outcome {
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Asserts success.
    pub fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Asserts the exit code, and that the message holds each of `parts`.
    pub fn fails(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "no `{part}` in {self:?}");
        }
        assert_eq!(self.stdout, "", "a failure has no result");
    }
}

/// A file or folder of `tests/fixtures/`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures")
        .join(name)
}

/// The names in a folder, in order.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        fs::copy(from, to).unwrap();
        return;
    }
    fs::create_dir(to).unwrap();
    for name in names(from) {
        copy(&from.join(&name), &to.join(&name));
    }
}
