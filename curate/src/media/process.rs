//! ffmpeg and ffprobe as child processes that cannot run away.

use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    range::{Checked, within},
};

/// What one file may cost. The defaults are our choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Address space of an ffmpeg process in bytes (enforced on Linux). Default 4 GiB.
    pub memory: u64,
    /// Seconds that ffmpeg may take for one file in all. Default a day.
    pub seconds: u64,
    /// Seconds without a sign of life from ffmpeg while it is waited for. Default 60.
    pub stall_seconds: u64,
    /// Pixels of one picture. Default 8192 x 8192.
    pub pixels: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 4 << 30,
            seconds: 24 * 60 * 60,
            stall_seconds: 60,
            pixels: 8192 * 8192,
        }
    }
}

impl Limits {
    /// The bounds of a configuration; a caller may ask for less.
    pub(crate) fn check(&self) -> Checked {
        /// Of a time that a clock can be set to.
        const YEAR: u64 = 365 * 24 * 60 * 60;
        // With half of it, ffmpeg and its libraries do not even start.
        within("memory", self.memory, 512 << 20..)?;
        within("seconds", self.seconds, 1..=YEAR)?;
        within("stall_seconds", self.stall_seconds, 1..=YEAR)?;
        // What the smallest tier asks for.
        within("pixels", self.pixels, 256 * 256..)
    }

    /// An error where a picture of this size is empty or has more pixels than allowed.
    pub(super) fn check_size(&self, path: &Path, width: u32, height: u32) -> Result<()> {
        let pixels = u64::from(width) * u64::from(height);
        if (1..=self.pixels).contains(&pixels) {
            return Ok(());
        }
        let allowed = self.pixels;
        Err(Error::Unusable {
            path: path.into(),
            problem: format!("pictures of {width}x{height}; 1 to {allowed} pixels are allowed"),
        })
    }
}

/// Container formats that ffmpeg may take a file for. Playlists (HLS, DASH, concat) and image
/// patterns are left out: they would make ffmpeg read other files than the one it is given.
const FORMATS: &str = "mov,matroska,avi,flv,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,asf,ogg,\
    mxf,rm,gif,apng,nut,dv,wtv,gxf,yuv4mpegpipe,mp3,wav,flac,aac,ac3";

/// ffmpeg's or ffprobe's options up to its input: quiet, this one file, nothing else.
///
/// The `file:` prefix makes a path literal that looks like an option or a protocol.
pub(super) fn input(path: &Path) -> Vec<OsString> {
    let mut literal = OsString::from("file:");
    literal.push(path);
    let options = ["-protocol_whitelist", "file,pipe", "-format_whitelist"];
    let mut arguments: Vec<_> = options.map(OsString::from).into();
    arguments.extend([FORMATS.into(), "-i".into(), literal]);
    arguments
}

/// A running ffmpeg or ffprobe, killed when it takes too long and when this is dropped.
pub(super) struct Process {
    shared: Arc<Shared>,
    stall: Duration,
    watchdog: Option<JoinHandle<()>>,
}

struct Shared {
    child: Mutex<Child>,
    watch: Mutex<Watch>,
    changed: Condvar,
}

struct Watch {
    /// When the whole time is spent.
    end: Instant,
    /// When the sign of life that is being waited for is overdue.
    stall: Option<Instant>,
    /// The watchdog has killed the process.
    expired: bool,
    /// The watchdog may go.
    done: bool,
}

impl Process {
    /// Starts `program` (found on `PATH`) with `arguments`.
    pub(super) fn start(
        program: &'static str,
        arguments: &[OsString],
        limits: &Limits,
    ) -> Result<(Self, Output, ChildStderr)> {
        let broken = || not_started(program, io::ErrorKind::BrokenPipe.into());
        let (stdout, theirs) = output().map_err(|_| broken())?;
        let mut command = Command::new(program);
        // An interrupt from the terminal is for this program alone: to ffmpeg it would be the end of
        // the file, and what was decoded by then would pass for all of it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .args(arguments)
            .env("AV_LOG_FORCE_NOCOLOR", "1")
            .stdin(Stdio::null())
            .stdout(theirs)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| not_started(program, source))?;
        // It holds the child's end of the output, which would never end.
        drop(command);
        limit_memory(&child, limits.memory);
        let stderr = child.stderr.take().ok_or_else(broken)?;
        let shared = Arc::new(Shared {
            child: Mutex::new(child),
            watch: Mutex::new(Watch {
                end: Instant::now() + Duration::from_secs(limits.seconds),
                stall: None,
                expired: false,
                done: false,
            }),
            changed: Condvar::new(),
        });
        let watched = Arc::clone(&shared);
        let process = Self {
            shared,
            stall: Duration::from_secs(limits.stall_seconds),
            watchdog: Some(std::thread::spawn(move || watched.guard())),
        };
        Ok((process, stdout, stderr))
    }

    /// Waits in `wait` for a sign of life; the process is killed when it stays out.
    pub(super) fn expect<T>(&self, wait: impl FnOnce() -> T) -> T {
        lock(&self.shared.watch).stall = Some(Instant::now() + self.stall);
        let result = wait();
        lock(&self.shared.watch).stall = None;
        result
    }

    /// Whether it was killed for taking too long.
    pub(super) fn expired(&self) -> bool {
        lock(&self.shared.watch).expired
    }

    /// Waits for the end of a process that has closed its output.
    pub(super) fn wait(&self) -> io::Result<ExitStatus> {
        // Polled, so that the watchdog can take the lock and kill a process that lingers.
        self.expect(|| {
            loop {
                if let Some(status) = lock(&self.shared.child).try_wait()? {
                    return Ok(status);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        lock(&self.shared.watch).done = true;
        self.shared.changed.notify_all();
        let mut child = lock(&self.shared.child);
        // Both fail only when it has already ended.
        let _ = child.kill();
        let _ = child.wait();
        drop(child);
        if let Some(watchdog) = self.watchdog.take() {
            let _ = watchdog.join();
        }
    }
}

impl Shared {
    /// The watchdog: looks once a second, as deadlines only move away.
    fn guard(&self) {
        let mut watch = lock(&self.watch);
        while !watch.done {
            let now = Instant::now();
            if now >= watch.end || watch.stall.is_some_and(|stall| now >= stall) {
                watch.expired = true;
                let _ = lock(&self.child).kill();
                return;
            }
            let pause = self.changed.wait_timeout(watch, Duration::from_secs(1));
            watch = pause.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// What a process's output is read from. On Unix a socket: pictures take some two thirds of the
/// processor's time that they take through a pipe, which holds them in pages of 4 KiB.
#[cfg(unix)]
pub(super) type Output = std::os::unix::net::UnixStream;
#[cfg(not(unix))]
pub(super) type Output = io::PipeReader;

/// Both ends of it.
#[cfg(unix)]
fn output() -> io::Result<(Output, Stdio)> {
    use rustix::net::sockopt::set_socket_send_buffer_size;
    let (ours, theirs) = Output::pair()?;
    // Where the system allows less it takes that; slower, not wrong.
    let _ = set_socket_send_buffer_size(&theirs, 1 << 20);
    Ok((ours, std::os::fd::OwnedFd::from(theirs).into()))
}

#[cfg(not(unix))]
fn output() -> io::Result<(Output, Stdio)> {
    let (ours, theirs) = io::pipe()?;
    Ok((ours, theirs.into()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_started(program: &str, source: io::Error) -> Error {
    if source.kind() == io::ErrorKind::NotFound {
        return Error::Unusable {
            path: program.into(),
            problem: "not found on PATH; install FFmpeg 5.1 or later".into(),
        };
    }
    Error::File {
        action: "start",
        path: program.into(),
        source,
    }
}

/// Bounds the address space of a child. From outside, as a hook between fork and exec is unsafe
/// code: the moment in between is spent loading the program.
#[cfg(target_os = "linux")]
fn limit_memory(child: &Child, bytes: u64) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let limit = Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // Fails where the child has already ended or the limit of this process is lower yet.
        let _ = prlimit(Some(pid), Resource::As, limit);
    }
}

#[cfg(not(target_os = "linux"))]
fn limit_memory(_child: &Child, _bytes: u64) {}

/// Reads a process's messages to their end: `line` takes each; returns the errors among them, cut
/// off after some 2000 bytes. Needs `-loglevel level+…`, which marks each line with its level.
pub(super) fn read_messages(stderr: ChildStderr, mut line: impl FnMut(&str)) -> String {
    let mut reader = BufReader::new(stderr);
    let (mut errors, mut bytes) = (String::new(), Vec::new());
    loop {
        bytes.clear();
        match reader.by_ref().take(4096).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => return errors,
            Ok(_) => (),
        }
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end();
        line(text);
        let marks = ["[error]", "[fatal]", "[panic]"];
        let error = marks.iter().find_map(|mark| text.split_once(mark));
        if let Some((_, error)) = error
            && errors.len() < 2000
        {
            if !errors.is_empty() {
                errors.push_str("; ");
            }
            errors.push_str(error.trim());
        }
    }
}
