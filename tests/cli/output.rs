//! Where the output cannot be written, or the user has seen enough.

use std::fs;

use crate::program::Desk;

#[test]
fn an_output_that_cannot_be_is_refused_at_once() {
    let desk = Desk::new();
    fs::write(desk.path("file"), "precious").unwrap();
    fs::create_dir_all(desk.path("full.mp4/inside")).unwrap();
    let before = desk.names();
    let refused = |output: &str, parts: &[&str]| {
        let options = ["--output", "--output a.gif --save-tensors"];
        let options = if output.ends_with("safetensors") {
            &options[1..]
        } else {
            &options[..1]
        };
        for option in options {
            desk.generate(&format!("--prompt cat {option} {output}"))
                .fails(1, parts);
        }
        assert_eq!(desk.names(), before, "{output}");
    };
    refused(
        "absent/a.mp4",
        &["absent/a.mp4", "no folder absent", "create it"],
    );
    refused(
        "absent/a.gif",
        &["absent/a.gif", "no folder absent", "create it"],
    );
    refused("file/a.mp4", &["file/a.mp4", "no folder file"]);
    refused(
        "absent/t.safetensors",
        &["absent/t.safetensors", "no folder absent"],
    );
    refused("full.mp4", &["full.mp4", "not empty"]);
    refused("file", &["cannot write file", "not a folder"]);
    refused("a.avi", &[".avi", ".mp4, .gif or .png"]);
    refused("a.mp4 --fps 0", &["frame rate"]);
    refused("a.gif --fps 60", &["50 frames per second", "mp4"]);
    assert_eq!(fs::read(desk.path("file")).unwrap(), b"precious");
}

#[test]
#[cfg(unix)]
fn a_device_is_not_replaced_by_a_file() {
    let desk = Desk::new();
    std::os::unix::fs::symlink("/dev/null", desk.path("null.mp4")).unwrap();
    desk.generate("--prompt cat --output null.mp4")
        .fails(1, &["null.mp4", "not a regular file"]);
    assert_eq!(desk.names(), ["null.mp4"]);
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{process::Command, thread::sleep, time::Duration};

    use crate::program::{Desk, GENERATE, Outcome};

    /// Runs the program through a shell script, as `"$@"`.
    fn run_in_shell(desk: &Desk, prelude: &str, arguments: &str) -> Outcome {
        let program = desk.command(arguments);
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(prelude)
            .arg("sh")
            .arg(program.get_program());
        shell.args(program.get_args()).current_dir(desk.path(""));
        Outcome::of(&mut shell)
    }

    /// A limit on the size of files makes writes fail half-way, as a full disk does.
    #[test]
    fn a_write_that_fails_leaves_nothing() {
        for output in ["a.mp4", "a.gif", "a", "a.gif --save-tensors t.safetensors"] {
            let desk = Desk::new();
            let limit = if output.contains("tensors") { 64 } else { 2 };
            let prelude = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$@\"");
            let arguments = format!("{GENERATE} --prompt cat --output {output} -q");
            let name = output.split(' ').next_back().unwrap();
            let message = format!("cannot write {name}: File too large");
            run_in_shell(&desk, &prelude, &arguments).fails(1, &[&message]);
            assert!(desk.names().is_empty(), "{output}: {:?}", desk.names());
        }
    }

    #[test]
    fn a_full_disk_leaves_nothing() {
        let desk = Desk::new();
        std::fs::create_dir(desk.path("disk")).unwrap();
        let mount = "mount -t tmpfs -o size=4k none disk";
        let allowed = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", mount])
            .current_dir(desk.path(""))
            .status();
        if !allowed.is_ok_and(|status| status.success()) {
            println!("skipped: this machine does not let a test mount a small disk");
            return;
        }
        // The mount ends with its namespace, so the script itself has to look.
        let script = format!("{mount}; \"$@\"; code=$?; ls -A disk; exit $code");
        for output in [
            "a.mp4",
            "a.gif",
            "a",
            "a.gif --save-tensors disk/t.safetensors",
        ] {
            let arguments = format!("{GENERATE} --prompt cat --output disk/{output} -q");
            let prelude =
                format!("exec unshare --map-root-user --mount sh -c '{script}' sh \"$@\"");
            // No standard output: nothing is left on the disk.
            run_in_shell(&desk, &prelude, &arguments).fails(1, &["cannot write disk/", "No space"]);
        }
    }

    /// Whether a process handles SIGINT itself.
    fn is_ready(process: u32) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
        caught & 0b10 != 0
    }

    /// Starts the program, and interrupts it `times` times a while after it is ready for that.
    fn interrupted(desk: &Desk, arguments: &str, wait: Duration, times: usize) -> Outcome {
        let mut command = desk.command(arguments);
        command.stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped());
        let child = command.spawn().unwrap();
        while !is_ready(child.id()) {
            sleep(Duration::from_millis(10));
        }
        sleep(wait);
        for _ in 0..times {
            let kill = Command::new("kill")
                .args(["-INT", &child.id().to_string()])
                .status();
            assert!(kill.unwrap().success());
            sleep(Duration::from_millis(100));
        }
        let output = child.wait_with_output().unwrap();
        Outcome {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Enough to be somewhere in the middle.
    const WAIT: Duration = Duration::from_millis(700);

    /// Also those that are not yet decoded.
    #[test]
    fn an_interrupt_leaves_the_videos_that_are_denoised() {
        for wait in [1, 2, 4, 8, 16, 32] {
            let desk = Desk::new();
            let arguments = "generate --device flex --size 32x48 --frames 5 --steps 2 --prompt cat \
                 --num-videos 1000 --output v.gif";
            let outcome = interrupted(&desk, arguments, Duration::from_secs(wait), 1);
            assert_eq!(outcome.code, Some(1), "{outcome:?}");
            if !outcome.stderr.contains("still written") {
                continue; // before the first was denoised
            }
            let names = desk.names();
            let written = names.len();
            assert!(written < 1000 && outcome.stdout.lines().count() == written);
            for number in 1..=written {
                assert!(names.contains(&format!("v-{number}.gif")), "{names:?}");
            }
            let told = format!("cancelled; {written} of 1000 videos were written");
            assert!(outcome.stderr.contains(&told), "{outcome:?}");
            return;
        }
        panic!("no video was denoised in time");
    }

    #[test]
    fn an_interrupt_stops_after_the_step() {
        for output in ["a.mp4", "a", "a.gif --save-tensors t.safetensors"] {
            let desk = Desk::new();
            let arguments = format!(
                "generate --device flex --size 32x48 --frames 5 --steps 10000 --prompt cat \
                 --output {output}"
            );
            interrupted(&desk, &arguments, WAIT, 1).fails(1, &["stopping", "cancelled"]);
            assert!(desk.names().is_empty(), "{output}: {:?}", desk.names());
        }
    }

    /// Also in the middle of a step, which takes seconds here.
    #[test]
    fn a_second_interrupt_stops_at_once() {
        for output in ["a.mp4", "a"] {
            let desk = Desk::new();
            let arguments = format!(
                "generate --device flex --size 512x512 --frames 17 --steps 50 --prompt cat \
                 --output {output}"
            );
            interrupted(&desk, &arguments, WAIT, 2).fails(1, &["stopping"]);
            assert!(desk.names().is_empty(), "{output}: {:?}", desk.names());
        }
    }
}
