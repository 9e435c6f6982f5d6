"""Shot detection: `burn-hunyuan scenes` against PySceneDetect with OpenCV, on the same files.

Usage: python benches/scenes.py [--binary PATH] [--runs N] [--detector NAME] [VIDEO…]

Without a file it draws a minute of 1080p24 H.264 with ffmpeg. Both read from the page cache and take
turns. Ours is timed whole, with the starts of ffprobe and ffmpeg; PySceneDetect both whole and without
the start of Python and its imports. Prints medians by the clock and by the processor, and whether the
cuts are the same. On a machine that is used by others, compare processor time on one core:
`taskset -c 0 python benches/scenes.py`.
"""

import argparse
import csv
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DETECTORS = {
    "content": "ContentDetector",
    "adaptive": "AdaptiveDetector",
    "threshold": "ThresholdDetector",
    "hash": "HashDetector",
    "histogram": "HistogramDetector",
}

PEER = """
import resource, sys, time
import scenedetect as s
video, name = sys.argv[1:]
used = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
begin, busy = time.perf_counter(), used()
stream = s.open_video(video)
length = s.FrameTimecode("0.6s", stream.frame_rate).frame_num
more = {"add_final_scene": True, "min_out_length": s.FrameTimecode("0.1s", stream.frame_rate)}
options = more if name == "ThresholdDetector" else {}
manager = s.SceneManager()
manager.add_detector(getattr(s, name)(min_scene_len=length, **options))
manager.detect_scenes(stream)
print(time.perf_counter() - begin, used() - busy)
print(*(start.frame_num + 1 for start, _ in manager.get_scene_list(start_in_scene=True)))
"""


def draw(path):
    """Six shots of ten seconds: moving fractals, textures and test patterns with film grain."""
    shots = [
        "mandelbrot=s=1920x1080:r=24:start_scale=0.5:end_scale=0.1:end_pts=300",
        "testsrc2=s=1920x1080:r=24",
        "gradients=s=1920x1080:r=24:seed=3:speed=0.02:nb_colors=6",
    ] * 2
    inputs = [word for shot in shots for word in ("-f", "lavfi", "-t", "10", "-i", shot)]
    looks = "".join(
        f"[{i}:v]hue=h={40 * i},noise=alls=8:allf=t,format=yuv420p,setsar=1[v{i}];"
        for i in range(len(shots))
    )
    joined = "".join(f"[v{i}]" for i in range(len(shots))) + f"concat=n={len(shots)}[v]"
    coder = ["-c:v", "libx264", "-preset", "medium", "-b:v", "8M"]
    command = ["ffmpeg", "-v", "error", "-y", *inputs, "-filter_complex", looks + joined]
    subprocess.run([*command, "-map", "[v]", *coder, str(path)], check=True)


def run(command):
    """Seconds by the clock and by the processor, and the output."""
    busy = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    output = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - busy.ru_utime - busy.ru_stime
    return (seconds, used), output.stdout


def ours(binary, video, detector):
    """Seconds of the whole program, and the scenes' first frames."""
    with tempfile.NamedTemporaryFile(suffix=".csv") as table:
        command = [binary, "scenes", video, "--detector", detector, "--csv", table.name, "--quiet"]
        times, _ = run(command)
        rows = list(csv.reader(open(table.name)))[2:]
    return times, [int(row[1]) for row in rows]


def peer(video, detector):
    """Seconds of the whole program and of the detection, and the scenes' first frames."""
    whole, output = run([sys.executable, "-c", PEER, video, DETECTORS[detector]])
    times, starts = output.splitlines()[-2:]
    return whole, tuple(map(float, times.split())), list(map(int, starts.split()))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default="target/release/burn-hunyuan")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--detector", choices=DETECTORS, default="adaptive")
    parser.add_argument("videos", nargs="*", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        videos = arguments.videos
        if not videos:
            videos = [Path(folder) / "drawn-1080p24.mp4"]
            draw(videos[0])
        for video in videos:
            runs = []
            for _ in range(arguments.runs):
                times, starts = ours(arguments.binary, video, arguments.detector)
                whole, detection, same = peer(video, arguments.detector)
                runs.append((times, whole, detection, starts == same))
            same = all(run[3] for run in runs)
            print(f"{video.name}, {arguments.detector}, {len(starts)} scenes, same: {same}")
            for k, clock in enumerate(("wall clock", "processor")):
                a, b, c = (statistics.median(run[side][k] for run in runs) for side in range(3))
                print(f"  {clock}: ours {a:.2f} s, PySceneDetect {b:.2f} s, ratio {b / a:.2f};", end=" ")
                print(f"without the start of Python {c:.2f} s, ratio {c / a:.2f}")


main()
