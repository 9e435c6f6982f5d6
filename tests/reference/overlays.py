"""Draws borders, subtitles and logos on ranges of given clips: labelled cases for the detector of overlays.

    python overlays.py CLIP... --output DIR
    OVERLAY_CASES=DIR cargo test --release -p burn-hunyuan -p burn-hunyuan-curate --test curate \
        -- --ignored overlays_on_given_clips --nocapture

Needs ffmpeg with drawtext. Half of the cases are clean. `cases.json` lists file and labels.
"""

import argparse
import json
import random
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

WIDTH, HEIGHT, SECONDS = 854, 480, 4.0

# Camera work laid over the clip: None leaves the camera as it is.
CAMERAS = {
    "as it is": "null",
    "mirrored": "hflip",
    "fast": "setpts=0.6*PTS",
    "slow": "setpts=1.5*PTS",
    "cropped": "crop=iw*0.7:ih*0.7:iw*0.1:ih*0.25",
    "pan": "crop=iw*0.6:ih*0.6:'(iw-ow)*t/4':'(ih-oh)*0.4'",
    "diagonal": "crop=iw*0.6:ih*0.6:'(iw-ow)*(1-t/4)':'(ih-oh)*t/4'",
    "tilt": "crop=iw*0.65:ih*0.65:'(iw-ow)*0.5':'(ih-oh)*t/4'",
    "handheld": "crop=iw*0.8:ih*0.8:'(iw-ow)*(0.5+0.3*sin(2.1*t)+0.15*sin(7*t))':'(ih-oh)*(0.5+0.3*cos(1.7*t)+0.15*sin(9*t))'",
    "zooming in": "scale=2*iw:-2,zoompan=z='1+0.08*it':x='(iw-iw/zoom)/2':y='(ih-ih/zoom)/2':d=1:fps=24:s=854x480",
    "zooming out": "scale=2*iw:-2,zoompan=z='1.5-0.08*it':x='(iw-iw/zoom)*0.4':y='(ih-ih/zoom)*0.6':d=1:fps=24:s=854x480",
    "turning": "rotate='0.12*t':ow=iw*0.7:oh=ih*0.6",
}
LINES = [
    "I never said that I would come back.",
    "You did. Last summer, at the lake.",
    "Then everything has changed since then",
    "Press the button, and step away!",
    "- Who is there? - Only me.",
    "WHAT HAPPENS NEXT IS UP TO YOU",
]
STYLES = {
    "outline": "fontcolor=white:borderw=2:bordercolor=black",
    "yellow": "fontcolor=yellow:borderw=2:bordercolor=black",
    "box": "fontcolor=white:box=1:boxcolor=black@0.6:boxborderw=6",
    "shadow": "fontcolor=white:shadowx=2:shadowy=2:shadowcolor=black",
}
PLACES = {
    "bottom": "x=(w-tw)/2:y=h*0.86",
    "higher": "x=(w-tw)/2:y=h*0.74",
    "top": "x=(w-tw)/2:y=h*0.06",
}


def subtitle(rng):
    """A line that stays, or lines that change, with a gap between."""
    style, place = rng.choice(list(STYLES)), rng.choice(["bottom", "bottom", "higher", "top"])
    size = rng.choice([22, 26, 30])
    look = f"fontsize={size}:{STYLES[style]}:{PLACES[place]}"
    lines = rng.sample(LINES, 3)
    text = lambda line, when: f"drawtext=text='{line}':{look}:enable='{when}'"
    if rng.random() < 0.4:
        return text(lines[0], "1"), f"one line, {style}, {place}"
    parts = [text(lines[0], "lt(t,1.4)"), text(lines[1], "between(t,1.6,2.9)"), text(lines[2], "gt(t,2.9)")]
    return ",".join(parts), f"changing lines, {style}, {place}"


def border(rng):
    """Pads the picture, so that it keeps its size with bars around a smaller one."""
    color, name = rng.choice([("black", "black"), ("black", "black"), ("0x101418", "near black"),
                              ("0x203050", "blue"), ("white", "white")])
    kind = rng.choice(["letterbox", "pillarbox", "frame"])
    depth = rng.uniform(0.05, 0.16)
    w = WIDTH if kind == "letterbox" else int(WIDTH * (1 - 2 * depth)) // 2 * 2
    h = HEIGHT if kind == "pillarbox" else int(HEIGHT * (1 - 2 * depth)) // 2 * 2
    pad = f"crop={w}:{h},pad={WIDTH}:{HEIGHT}:(ow-iw)/2:(oh-ih)/2:color={color}"
    soft = rng.random() < 0.25
    if soft:  # feathered over a few pixels
        pad += ",gblur=sigma=1.5"
    return pad, f"{kind} {name}{' soft' if soft else ''} {depth:.2f}"


def logo(rng):
    corner = rng.choice(["x=w*0.04:y=h*0.06", "x=w*0.96-tw:y=h*0.06", "x=w*0.04:y=h*0.9-th", "x=w*0.96-tw:y=h*0.9-th"])
    kind = rng.choice(["text", "sheer text", "centre", "badge"])
    if kind == "text":
        return f"drawtext=text='NEWS 24':fontsize=26:fontcolor=white:{corner}", f"{kind}"
    if kind == "sheer text":
        return f"drawtext=text='© studio':fontsize=32:fontcolor=white@0.5:{corner}", f"{kind}"
    if kind == "centre":
        return "drawtext=text='PREVIEW':fontsize=80:fontcolor=white@0.35:x=(w-tw)/2:y=(h-th)/2", f"{kind}"
    x, y = rng.choice([(0.04, 0.06), (0.88, 0.06), (0.04, 0.84), (0.88, 0.84)])
    side = 0.07 * WIDTH
    box = lambda dx, dy, w, h, c: (f"drawbox=x={int(x * WIDTH + dx * side)}:y={int(y * HEIGHT + dy * side)}:"
                                   f"w={int(w * side)}:h={int(h * side)}:color={c}:t=fill")
    alpha = rng.choice([1.0, 0.7])
    return ",".join([box(0, 0, 1, 1, f"red@{alpha}"), box(0.2, 0.2, 0.25, 0.6, f"white@{alpha}"),
                     box(0.45, 0.55, 0.4, 0.25, f"white@{alpha}")]), f"{kind} {alpha}"


def duration(clip):
    answer = subprocess.run(["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", clip],
                            check=True, capture_output=True, text=True)
    return float(answer.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--still", action="store_true", help="leave the cameras as they are")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    rng = random.Random(arguments.seed)

    cases, commands = [], []
    cameras = dict(list(CAMERAS.items())[:5]) if arguments.still else CAMERAS
    for clip in arguments.clips:
        length = duration(clip)
        for camera, motion in cameras.items():
            drawn = [{}, {}, {}, {"border": border(rng)}, {"subtitle": subtitle(rng)}, {"logo": logo(rng)}]
            if rng.random() < 0.3:
                drawn[3]["subtitle"] = subtitle(rng)
            if rng.random() < 0.3:
                drawn[5]["subtitle"] = subtitle(rng)
            for overlays in drawn:
                start = rng.uniform(0, max(0.0, length - SECONDS * 1.2))
                # Overlays lie on the picture, bars around it under the subtitle.
                order = [overlays[k] for k in ("logo", "border", "subtitle") if k in overlays]
                chain = ",".join([motion, f"scale={WIDTH}:{HEIGHT}", "setsar=1", *(o[0] for o in order)])
                name = f"{len(cases):03}.mp4"
                commands.append(["ffmpeg", "-v", "error", "-y", "-ss", f"{start:.2f}", "-i", clip, "-vf", chain,
                                 "-t", str(SECONDS), "-an", "-c:v", "libx264", "-preset", "veryfast", "-crf",
                                 str(rng.choice([20, 26])), "-pix_fmt", "yuv420p", str(arguments.output / name)])
                cases.append({"file": name, "footage": f"{Path(clip).stem}, {camera}",
                              "drawn": "; ".join(o[1] for o in order),
                              "borders": "border" in overlays, "subtitles": "subtitle" in overlays,
                              "logos": "logo" in overlays})
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda command: subprocess.run(command, check=True), commands))
    (arguments.output / "cases.json").write_text(json.dumps(cases, indent=1))


if __name__ == "__main__":
    main()
