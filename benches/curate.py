"""How fast the whole curation pipeline runs: seconds of 1080p24 footage a second.

    cargo build --release
    python benches/curate.py [--binary target/release/burn-hunyuan] [--jobs N] [CLIP ...]

The clips given are scaled to 1920x1080 at 24 pictures a second and repeated to a minute each; without
clips, ffmpeg draws two. Files are hashed, decoded, measured, compared and cut with the default
configuration on the CPU. Elapsed time is that of the wall; processor time includes ffmpeg's.
"""

import argparse
import pathlib
import resource
import subprocess
import tempfile
import time

SECONDS = 60
DRAWN = [
    "mandelbrot=size=1920x1080:rate=24:end_scale=0.01",
    "testsrc2=size=1920x1080:rate=24",
]


def encode(source, path):
    scale = "scale=1920:1080:flags=lanczos,setsar=1"
    command = ["ffmpeg", "-v", "error", "-y", *source, "-t", str(SECONDS), "-vf", scale]
    command += ["-r", "24", "-an", "-c:v", "libx264", "-preset", "veryfast", "-crf", "20"]
    subprocess.run([*command, "-pix_fmt", "yuv420p", str(path)], check=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", default="target/release/burn-hunyuan")
    arguments.add_argument("--jobs", default="2")
    arguments.add_argument("--no-cut", action="store_true")
    arguments.add_argument("clips", nargs="*")
    options = arguments.parse_args()
    sources = [["-stream_loop", "-1", "-i", clip] for clip in options.clips]
    sources = sources or [["-f", "lavfi", "-i", drawn] for drawn in DRAWN]
    with tempfile.TemporaryDirectory() as folder:
        footage, out = pathlib.Path(folder, "footage"), pathlib.Path(folder, "out")
        footage.mkdir()
        for index, source in enumerate(sources):
            encode(source, footage / f"{index}.mp4")
        command = [options.binary, "curate", str(footage), "--output", str(out)]
        command += ["--jobs", options.jobs, "--device", "flex", "--quiet"]
        command += ["--no-cut"] if options.no_cut else []
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begun = time.perf_counter()
        subprocess.run(command, check=True)
        elapsed = time.perf_counter() - begun
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    seconds = SECONDS * len(sources)
    print(f"{seconds} s of 1080p24 in {elapsed:.1f} s: {seconds / elapsed:.2f} x real time")
    print(f"{processor:.1f} s of processor time: {processor / seconds:.3f} s for each second")


if __name__ == "__main__":
    main()
