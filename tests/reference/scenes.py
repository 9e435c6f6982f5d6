"""Footage with cuts, dissolves, fades and flashes, and what PySceneDetect finds in it.

Writes tests/fixtures/scenes/: small videos made with ffmpeg, and for each and each detector the
scene list and the statistics as PySceneDetect writes them (scenes.json). The detectors have the
defaults of PySceneDetect's program.
"""

import io
import json
import struct
import subprocess
from pathlib import Path

from scenedetect import (
    AdaptiveDetector,
    ContentDetector,
    HashDetector,
    HistogramDetector,
    SceneManager,
    StatsManager,
    ThresholdDetector,
    open_video,
)
from scenedetect.common import FrameTimecode
from scenedetect.output import write_scene_list

FOLDER = Path(__file__).parent.parent / "fixtures" / "scenes"


def ffmpeg(*arguments):
    quiet = ["ffmpeg", "-v", "error", "-y", "-fflags", "+bitexact", "-threads", "1"]
    subprocess.run([*quiet, *map(str, arguments)], check=True)


def footage(path, size, rate, encoder, filters="null"):
    """Shots of different lengths: hard cuts, a dissolve, a fade through black, a burst of flashes,
    a cut too close to the one before it, a fade to black at the end."""
    source = lambda name, seconds, look="null": (
        f"{name}{'=' if '=' not in name else ':'}size={size}:rate={rate},trim=duration={seconds},"
        f"setpts=PTS-STARTPTS,{look},format=yuv420p,setsar=1"
    )
    shots = [
        source("mandelbrot=start_scale=0.5:end_scale=0.2:end_pts=200", 2, "hue=h=40"),
        source("testsrc2", 1.5),
        source("gradients=seed=4:nb_colors=5:speed=0.05:c0=red:c1=blue:c2=green:c3=white:c4=black", 2, "fade=out:st=1.4:d=0.6"),
        source("cellauto=rule=110:seed=3:stitch=1", 1.6, "fade=in:st=0:d=0.5,eq=contrast=0.7"),
        source("gradients=seed=9:nb_colors=3:speed=0.02:c0=yellow:c1=navy:c2=gray", 0.3),
        source("color=color=white", 0.13),
        source("gradients=seed=9:nb_colors=3:speed=0.02:c0=yellow:c1=navy:c2=gray", 0.3),
        source("color=color=white", 0.13),
        source("gradients=seed=9:nb_colors=3:speed=0.02:c0=yellow:c1=navy:c2=gray", 1.8),
        source("mandelbrot=start_scale=0.02:end_scale=0.01:end_pts=200", 1.6, "hue=h=200"),
        source("smptehdbars", 1.2, "zoompan=z='1+0.01*on':d=1:fps=%s:s=%s" % (rate, size)),
        source("testsrc2", 1.8, "negate,hue=h=90,fade=out:st=1.3:d=0.5"),
    ]
    inputs = [word for shot in shots for word in ("-f", "lavfi", "-i", shot)]
    # A dissolve of half a second between the 10th and the 11th.
    joined = (
        f"[9:v]settb=AVTB,fps={rate}[a];[10:v]settb=AVTB,fps={rate}[b];"
        "[a][b]xfade=transition=fade:duration=0.5:offset=1.1,format=yuv420p[x];"
        + "".join(f"[{i}:v]" for i in range(9))
        + f"[x][11:v]concat=n=11:v=1:a=0,{filters}[v]"
    )
    ffmpeg(*inputs, "-filter_complex", joined, "-map", "[v]", *encoder, path)


def turn(path, target):
    """Makes players turn the picture by 90 degrees clockwise: the matrix of the track's header."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    one = 1 << 16
    data[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 120 * one, 0, 1 << 30)
    target.write_bytes(data)
    path.unlink()


def detectors(rate):
    frames = FrameTimecode("0.6s", rate).frame_num
    return {
        "content": ContentDetector(min_scene_len=frames),
        "adaptive": AdaptiveDetector(min_scene_len=frames),
        "threshold": ThresholdDetector(
            min_scene_len=frames, add_final_scene=True, min_out_length=FrameTimecode("0.1s", rate)
        ),
        "hash": HashDetector(min_scene_len=frames),
        "histogram": HistogramDetector(min_scene_len=frames),
    }


def detect(path, name):
    video = open_video(str(path))
    stats = StatsManager()
    manager = SceneManager(stats)
    manager.add_detector(detectors(video.frame_rate)[name])
    manager.detect_scenes(video)
    csv, table = io.StringIO(), io.StringIO()
    scenes = manager.get_scene_list(start_in_scene=True)
    # The program passes the cuts as well, which makes the first row begin with a label.
    cuts = [start.get_timecode() for start, _ in scenes[1:]]
    write_scene_list(csv, scenes, cut_list=cuts)
    stats.save_to_csv(table)
    return {"csv": csv.getvalue(), "stats": table.getvalue()}


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    x264 = ["-c:v", "libx264", "-preset", "slow", "-crf", "33", "-g", "48"]
    footage(FOLDER / "shots.mp4", "400x226", 24, x264)
    # A variable rate: a third of the pictures dropped here and there, times in milliseconds.
    drop = "select='gt(mod(n*n\\,7)\\,1)'"
    vfr = ["-fps_mode", "passthrough", *x264]
    footage(FOLDER / "variable.mkv", "320x180", 30, vfr, drop)
    # Shown upright although stored lying; small enough not to be reduced.
    footage(FOLDER / "lying.mp4", "200x120", 25, x264)
    turn(FOLDER / "lying.mp4", FOLDER / "rotated.mp4")
    found = {
        path.name: {name: detect(path, name) for name in detectors(25.0)}
        for path in sorted(FOLDER.iterdir())
        if path.suffix != ".json"
    }
    (FOLDER / "scenes.json").write_text(json.dumps(found, indent=1) + "\n")


main()
