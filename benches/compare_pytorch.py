"""The models of diffusers and transformers against `burn-hunyuan bench`: same sizes, weights, inputs and threads.

    python benches/compare_pytorch.py [CASE ...] [--threads 2] [--cpus 0,1] [--rounds 3] [--output benches/results/NAME]

Each case runs in processes of its own, PyTorch and burn-hunyuan in turn: one pass to warm up, then one that is timed.
The table has medians over the rounds; a ratio above 1 means that burn-hunyuan is faster, or needs less memory. Seconds
are the clock's, and the processor's, of all threads together: on a machine with other work the clock tells little. The
ratio in bold is that of the clock, with one thread that of the processor. Memory is the process's peak. The difference is
the largest of the outputs', relative to the largest output; a training step's outputs are the loss and the gradients'
norm. Where burn-hunyuan computes blocks again in the backward pass, PyTorch does too ("gradient checkpointing").

Weights are random, from a seed; files of them go to --folder (up to 4 GB for a case, removed afterwards).
Needs the packages of tests/reference/requirements.txt and `cargo build --release`.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
DIT_TOKENS = ["--text-tokens", "256", "--text-valid", "100"]
TINY = ROOT / "burn-hunyuan/src/checkpoint/tiny"

# Name: component, number format, options of `burn-hunyuan bench`.
CASES = {
    "vae-decode": ("vae-decode", "f32", ["--size", "128x128", "--frames", "9"]),
    "vae-encode": ("vae-encode", "f32", ["--size", "128x128", "--frames", "9"]),
    "dit": ("dit", "f32", ["--size", "256x256", "--frames", "17", *DIT_TOKENS]),
    "dit-bf16": ("dit", "bf16", ["--size", "256x256", "--frames", "17", *DIT_TOKENS]),
    "llama": ("text", "f32", ["--text-tokens", "256"]),
    "clip": ("clip", "f32", []),
    "train-dit": ("train-dit", "f32", ["--size", "128x128", "--frames", "9", *DIT_TOKENS]),
    "train-dit-tiny": ("train-dit", "f32", ["--size", "64x64", "--frames", "17", *DIT_TOKENS]),
    "train-vae": ("train-vae", "f32", ["--size", "32x32", "--frames", "5"]),
    "train-vae-tiny": ("train-vae", "f32", ["--size", "64x64", "--frames", "17"]),
}
# The built-in model's sizes; the others are the published model's, with fewer blocks.
CONFIGS = {"train-dit-tiny": TINY / "transformer.json", "train-vae-tiny": TINY / "vae.json"}
WHAT = {
    "vae-decode": "VAE decode, 9×128×128",
    "vae-encode": "VAE encode, 9×128×128",
    "dit": "DiT, 1 dual + 2 single blocks, 1280 + 256 tokens (100 valid)",
    "dit-bf16": "the same in bf16",
    "llama": "LLaMA, 2 layers, 256 tokens",
    "clip": "CLIP-L, 77 tokens",
    "train-dit": "DiT gradients, 1 dual + 1 single block, 192 + 256 tokens (100 valid), blocks computed again",
    "train-dit-tiny": "DiT gradients, the built-in small model, 80 + 256 tokens (100 valid), blocks computed again",
    "train-vae": "VAE gradients, 5×32×32, nothing computed again",
    "train-vae-tiny": "VAE gradients, the built-in small model, 17×64×64, nothing computed again",
}


def config_of(case):
    config = json.loads(CONFIGS[case].read_text()) if case in CONFIGS else {}
    return {key: value for key, value in config.items() if not key.startswith("_")}


def dit(torch, size, **config):
    """The transformer and its inputs; text beyond the first 100 tokens is padding."""
    from diffusers import HunyuanVideoTransformer3DModel

    model = HunyuanVideoTransformer3DModel(**config)
    inputs = dict(latents=torch.randn(1, 16, *size), text=torch.randn(1, 256, model.config.text_embed_dim),
                  pooled=torch.randn(1, model.config.pooled_projection_dim))

    def forward(latents, text, pooled, **_):
        mask = (torch.arange(256) < 100)[None].to(text.dtype)
        guidance = torch.tensor([6000.0]).to(text.dtype) if model.config.guidance_embeds else None
        return model(latents, torch.tensor([500.0]), text, mask, pooled, guidance, return_dict=False)[0]
    return model, inputs, forward


def vae(**config):
    from diffusers import AutoencoderKLHunyuanVideo

    return AutoencoderKLHunyuanVideo(**config)


def make(case):
    """A model, its inputs by name, and a function from inputs to the output."""
    import torch

    torch.manual_seed(0)
    if case in ("dit", "dit-bf16"):
        return dit(torch, (5, 32, 32), num_layers=1, num_single_layers=2)
    if case in ("train-dit", "train-dit-tiny"):
        config = config_of(case) or dict(num_layers=1, num_single_layers=1)
        model, inputs, forward = dit(torch, (5, 8, 8) if case in CONFIGS else (3, 16, 16), **config)
        model.enable_gradient_checkpointing()
        inputs["velocity"] = torch.randn_like(inputs["latents"])
        return model, inputs, lambda **x: torch.nn.functional.mse_loss(forward(**x), x["velocity"])
    if case in ("train-vae", "train-vae-tiny"):
        model = vae(**config_of(case))
        size = (17, 64, 64) if case in CONFIGS else (5, 32, 32)
        return model, dict(video=torch.randn(1, 3, *size)), lambda video: (
            model.decoder(model.post_quant_conv(model.quant_conv(model.encoder(video)).chunk(2, 1)[0])) - video
        ).abs().mean()
    if case == "vae-encode":
        model = vae()
        return model, dict(video=torch.randn(1, 3, 9, 128, 128)), lambda video: (
            model.quant_conv(model.encoder(video)).chunk(2, 1)[0])
    if case == "vae-decode":
        model = vae()
        return model, dict(latents=torch.randn(1, 16, 3, 16, 16)), lambda latents: (
            model.decoder(model.post_quant_conv(latents)))
    if case == "llama":
        from transformers import LlamaConfig, LlamaModel

        model = LlamaModel(LlamaConfig(
            vocab_size=128320, hidden_size=4096, intermediate_size=14336, num_hidden_layers=2, num_attention_heads=32,
            num_key_value_heads=8, rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 500000.0}))
        # The pipeline takes a state before the last layers, without the final norm.
        model.norm = torch.nn.Identity()
        mask = torch.ones(1, 256).long()
        return model, dict(tokens=torch.randint(0, 128000, (1, 256)).float()), lambda tokens: (
            model(tokens.long(), attention_mask=mask, use_cache=False).last_hidden_state)
    from transformers import CLIPTextConfig, CLIPTextModel

    model = CLIPTextModel(CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
        eos_token_id=2))
    return model, dict(tokens=torch.randint(0, 49000, (1, 77)).float()), lambda tokens: model(tokens.long()).pooler_output


def child(case, folder, prepare):
    """Runs PyTorch's side, or writes its weights and inputs for the other."""
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    component, dtype, _ = CASES[case]
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
    torch.set_default_dtype(dtype)
    model, inputs, forward = make(case)
    if prepare:
        weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        if case == "llama":
            # burn-hunyuan leaves out a file's last two layers, which the pipeline does not use; here they are stubs.
            stubs = ["self_attn.q_proj", "mlp.gate_proj"]
            weights |= {f"layers.{i}.{stub}.weight": torch.zeros(1, 1) for i in (2, 3) for stub in stubs}
        save_file(weights, folder / "model.safetensors")
        save_file({name: tensor.float() for name, tensor in inputs.items()}, folder / "inputs.safetensors")
        if case in CONFIGS:
            shutil.copy(CONFIGS[case], folder / "config.json")
        return

    trains = component.startswith("train")
    model.train(trains).requires_grad_(trains)

    def run():
        if not trains:
            return forward(**inputs)
        model.zero_grad(set_to_none=True)
        loss = forward(**inputs)
        loss.backward()
        squares = [p.grad.double().square().sum() for p in model.parameters() if p.grad is not None]
        return torch.stack([loss.detach(), torch.stack(squares).sum().sqrt().float()])

    with torch.set_grad_enabled(trains):
        run()
        clock, processor = time.perf_counter(), time.process_time()
        output = run()
    seconds = dict(clock=time.perf_counter() - clock, processor=time.process_time() - processor)
    save_file({"output": output.detach().float().flatten().contiguous()}, folder / "pytorch.safetensors")
    print(json.dumps(dict(seconds, memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)))


def pytorch(case, folder, *more):
    command = [sys.executable, __file__, "--child", case, "--folder", folder, *more]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return output and json.loads(output.splitlines()[-1])


def ours(case, folder, binary):
    component, dtype, options = CASES[case]
    command = [binary, "bench", component, "--device", "flex", "--dtype", dtype, "--runs", "1", *options,
               "--weights", folder / "model.safetensors", "--inputs", folder / "inputs.safetensors",
               "--output", folder / "ours.safetensors"]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return dict(clock=report["seconds"]["median"], processor=report["processor_seconds"]["median"],
                memory=report["peak_memory"])


def difference(folder):
    """The largest difference of the outputs, relative to the largest value."""
    from safetensors.numpy import load_file

    ours, theirs = (load_file(folder / f"{name}.safetensors")["output"] for name in ("ours", "pytorch"))
    return float(abs(ours - theirs).max() / abs(theirs).max())


def compare(case, options):
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        pytorch(case, folder, "--prepare")
        sides = dict(pytorch=[], ours=[])
        for _ in range(options.rounds):
            sides["pytorch"].append(pytorch(case, folder))
            sides["ours"].append(ours(case, folder, options.binary))
        return dict(case=case, what=WHAT[case], difference=difference(folder), rounds=sides, **{
            side: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for side, runs in sides.items()})
    finally:
        shutil.rmtree(folder)


HEADER = ("| | PyTorch, clock | ours | ratio | PyTorch, processor | ours | ratio | PyTorch, memory | ours | ratio | "
          "difference |")


def row(result, threads):
    def cells(key, text):
        theirs, ours = result["pytorch"][key], result["ours"][key]
        ratio = f"{theirs / ours:.2f}"
        bold = key == ("clock" if threads > 1 else "processor")
        return [text(theirs), text(ours), f"**{ratio}**" if bold else ratio]

    cells = [result["what"], *cells("clock", "{:.2f} s".format), *cells("processor", "{:.2f} s".format),
             *cells("memory", lambda size: f"{size / 1e9:.2f} GB"), f"{result['difference']:.0e}"]
    return f"| {' | '.join(cells)} |"


def environment(options):
    """What the figures depend on."""
    with open("/proc/cpuinfo") as info:
        cpu = next(line.split(":")[1].strip() for line in info if line.startswith("model name"))
    packages = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, check=True, stdout=subprocess.PIPE,
                            text=True).stdout.strip()
    return dict(date=time.strftime("%Y-%m-%d"), cpu=cpu, threads=options.threads, rounds=options.rounds,
                load=round(os.getloadavg()[0], 1), commit=commit,
                burn=next(package["version"] for package in packages if package["name"] == "burn"),
                **{package: version(package) for package in ("torch", "diffusers", "transformers")})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--cpus", help="run on these processors only, as 0,1")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/burn-hunyuan")
    parser.add_argument("--folder", type=Path, help="where weights are written [default: the system's for such files]")
    parser.add_argument("--output", type=Path, help="write NAME.json and NAME.md")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options.child, options.folder, options.prepare)
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(CASES)}")
    if options.cpus:
        os.sched_setaffinity(0, map(int, options.cpus.split(",")))
    os.environ |= dict(OMP_NUM_THREADS=str(options.threads), RAYON_NUM_THREADS=str(options.threads))

    measured_in = environment(options)
    lines = [", ".join(f"{key} {value}" for key, value in measured_in.items()), "", HEADER, "| --- " * 11 + "|"]
    print("\n".join(lines), flush=True)
    results = []
    for case in options.cases or CASES:
        results.append(compare(case, options))
        lines.append(row(results[-1], options.threads))
        print(lines[-1], flush=True)
        if options.output:
            options.output.with_suffix(".md").write_text("\n".join(lines) + "\n")
            report = dict(environment=measured_in, results=results)
            options.output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
