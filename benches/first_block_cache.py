"""What `generate --cache-threshold` costs in quality: PSNR of the frames against the same run without it.

    cargo build --release
    python benches/first_block_cache.py [--binary target/release/burn-hunyuan] [THRESHOLD ...]

Eight prompts of the built-in model with its default settings, in f32 on the CPU. The peak is 1, as frames are in 0 to 1.
Needs numpy and safetensors.
"""

import argparse
import pathlib
import subprocess
import tempfile

import numpy
from safetensors.numpy import load_file

PROMPTS = [
    "a red circle moves left over a blue background",
    "a green square moves right over a white background",
    "a yellow triangle moves up over a black background",
    "a blue star moves down over a yellow background",
    "a white circle grows over a red background",
    "a black square shrinks over a green background",
    "a purple triangle spins over a pink background",
    "a orange star stays still over a cyan background",
]


def generate(binary, prompt, *options):
    with tempfile.TemporaryDirectory() as folder:
        tensors = pathlib.Path(folder) / "run.safetensors"
        command = [binary, "generate", "--quiet", "--device", "flex", "--dtype", "f32", "--seed", "1", "--prompt", prompt]
        command += ["--output", pathlib.Path(folder) / "run.mp4", "--save-tensors", tensors, *options]
        subprocess.run(command, check=True)
        return load_file(tensors)["frames"].astype(numpy.float64)


def psnr(ours, reference):
    error = numpy.square(ours - reference).mean()
    return numpy.inf if error == 0 else -10 * numpy.log10(error)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", default="target/release/burn-hunyuan")
    arguments.add_argument("thresholds", nargs="*", default=["0.05", "0.1", "0.2"], metavar="THRESHOLD")
    options = arguments.parse_args()
    references = [generate(options.binary, prompt) for prompt in PROMPTS]
    print("| `--cache-threshold` | PSNR in dB, of each prompt | worst |\n| --- | --- | --- |", flush=True)
    for threshold in options.thresholds:
        values = [psnr(generate(options.binary, prompt, "--cache-threshold", threshold), reference)
                  for prompt, reference in zip(PROMPTS, references)]
        each = ", ".join(f"{value:.1f}" for value in values)
        print(f"| {threshold} | {each} | {min(values):.1f} |", flush=True)


if __name__ == "__main__":
    main()
