"""How well dissolves and fades are found: `burn-hunyuan scenes --transitions` on videos made with
known ones.

Usage: python benches/transitions.py [--binary PATH] [--pairs N] [--seed N] [--transnet FILE] [VIDEO…]

Shots are four seconds of 640x360 at 24 pictures a second: three views (whole, and two quarters, one
mirrored) of each piece of the given videos, which should hold no transition of their own, and moving
patterns that ffmpeg draws. Pairs of them, chosen by
chance, are joined by ffmpeg's `xfade` with a dissolve or a fade through black of 8 to 48 pictures,
or by a cut, and coded as H.264. A transition is found where one of any kind shares more than three
tenths with it; all else that is found, also in the shots alone and at the cuts, is false.
"""

import argparse
import random
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

RATE = 24
SECONDS = 4
LENGTHS = (8, 12, 24, 36, 48)
KINDS = {"dissolve": "fade", "fade": "fadeblack"}
CODER = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"]
LOOK = f"fps={RATE},scale=640:360:force_original_aspect_ratio=increase,crop=640:360,setsar=1"
VIEWS = ("", "crop=iw/2:ih/2:0:0,hflip,", "crop=iw/2:ih/2:iw/2:ih/2,")
PATTERNS = [
    "mandelbrot=s=640x360:r=24:start_scale=1:end_scale=0.2:end_pts=200",
    "testsrc2=s=640x360:r=24",
    "gradients=s=640x360:r=24:seed=4:speed=0.02:nb_colors=5",
    "life=s=640x360:r=24:seed=9:mold=10:life_color=0xC0A080:death_color=0x203040",
    "smptehdbars=s=640x360:r=24,rotate=t/3",
    "sierpinski=s=640x360:r=24:seed=2",
]
LINE = re.compile(r"(dissolve|fade-in|fade-out)\s.*frames (\d+) - (\d+)")


def ffmpeg(*words):
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, words)], check=True)


def seconds(video):
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"]
    return float(subprocess.run([*command, str(video)], capture_output=True, check=True).stdout)


def shots(videos, folder):
    """Views of pieces of the videos, and patterns."""
    sources = [("", ["-f", "lavfi", "-t", SECONDS, "-i", pattern]) for pattern in PATTERNS]
    for video in videos:
        pieces = int((seconds(video) + 0.1) // SECONDS)
        for piece in (["-ss", i * SECONDS, "-t", SECONDS, "-i", video] for i in range(pieces)):
            sources += [(view, piece) for view in VIEWS]
    made = []
    for i, (view, source) in enumerate(sources):
        made.append(folder / f"shot-{i}.mkv")
        ffmpeg(*source, "-an", "-vf", view + LOOK, *CODER, "-crf", 14, made[-1])
    return made


def join(first, second, effect, length, target):
    """Joins two shots; the frames from the first mixed one on to the first after."""
    begin = RATE * 2
    even = f"settb=AVTB,fps={RATE}"
    graph = f"[0:v]{even}[a];[1:v]{even}[b];"
    if effect is None:
        graph += f"[a]trim=end_frame={begin}[c];[c][b]concat[v]"
    else:
        graph += f"[a][b]xfade=transition={effect}:duration={length / RATE}:offset={begin / RATE}[v]"
    inputs = ("-i", first, "-i", second, "-filter_complex", graph, "-map", "[v]")
    ffmpeg(*inputs, *CODER, "-crf", 23, target)
    return begin, begin + length


def found(finder, video):
    command = [*finder, str(video)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [(int(m[2]) - 1, int(m[3])) for m in LINE.finditer(text)]


def hits(transition, truth):
    """Whether they share three tenths of the shorter."""
    (a, b), (c, d) = transition, truth
    return min(b, d) - max(a, c) > 0.3 * min(b - a, d - c)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default="target/release/burn-hunyuan")
    parser.add_argument("--pairs", type=int, default=8, help="for each kind and length")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--transnet", help="weights of TransNetV2, which then finds them")
    parser.add_argument("videos", nargs="*", type=Path)
    arguments = parser.parse_args()
    finder = [arguments.binary, "scenes", "--transitions"]
    if arguments.transnet:
        finder += ["--transnet", arguments.transnet, "--device", "flex"]
    chance = random.Random(arguments.seed)
    recalled, right, wrong = Counter(), 0, Counter()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        clean = shots(arguments.videos, folder)
        target = folder / "joined.mp4"
        for kind, effect in KINDS.items():
            for length in LENGTHS:
                for _ in range(arguments.pairs):
                    truth = join(*chance.sample(clean, 2), effect, length, target)
                    results = [hits(result, truth) for result in found(finder, target)]
                    recalled[kind, length] += any(results)
                    right += sum(results)
                    wrong["beside a transition"] += len(results) - sum(results)
        for _ in range(2 * arguments.pairs):
            join(*chance.sample(clean, 2), None, 0, target)
            wrong["with a cut"] += len(found(finder, target))
        for shot in clean:
            wrong["in a shot alone"] += len(found(finder, shot))
    print(f"{len(clean)} shots, {len(PATTERNS)} of them drawn")
    print("| pictures |", " | ".join(map(str, LENGTHS)), "|")
    for kind in KINDS:
        cells = [f"{recalled[kind, length]}/{arguments.pairs}" for length in LENGTHS]
        print(f"| {kind} |", " | ".join(cells), "|")
    total = sum(recalled.values()) / (len(KINDS) * len(LENGTHS) * arguments.pairs)
    print(f"recall {total:.2f}, precision {right / max(1, right + wrong.total()):.2f}")
    print("false:", ", ".join(f"{count} {where}" for where, count in wrong.items()))


main()
