"""Writes the fixture of `tests/lora.rs`: one LoRA on a small diffusion transformer, in the formats of several programs.

Usage: python tests/reference/lora.py
       python tests/reference/lora.py check target/release/burn-hunyuan

lora.safetensors: the transformer's weights, its inputs, and its output with the LoRA active in diffusers at strength
1.0 and 0.5.
lora_diffusers.safetensors: the LoRA as diffusers saves it, with its metadata.
lora_original.safetensors: a LoRA on the layers that Tencent fuses, in their names; the output with it is in
lora.safetensors, computed by diffusers after its own conversion to its layers.
lora_kohya.safetensors: the same in kohya's names, with an alpha.

`check` writes nothing there: it has the program convert each LoRA into each format and merge it, runs diffusers with what
was written, and prints how far its output is from that with the LoRA as it was, relative to the largest value.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import HunyuanVideoTransformer3DModel
from diffusers.loaders import lora_conversion_utils
from peft import LoraConfig
from safetensors.torch import load_file, save_file

FIXTURES = Path(__file__).parent.parent / "fixtures"
WIDTH = 32
CONFIG = dict(in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=1,
              num_single_layers=2, num_refiner_layers=1, mlp_ratio=4.0, patch_size=2, patch_size_t=1,
              guidance_embeds=True, text_embed_dim=24, pooled_projection_dim=20, rope_theta=256.0,
              rope_axes_dim=(4, 6, 6))
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
           "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2", "proj_mlp",
           "single_transformer_blocks.0.proj_out", "single_transformer_blocks.1.proj_out"]
# Tencent's linear layers: rows and columns in multiples of the width.
FUSED = {"double_blocks.0.img_attn_qkv": (3, 1), "double_blocks.0.txt_attn_qkv": (3, 1),
         "double_blocks.0.img_attn_proj": (1, 1), "double_blocks.0.txt_mlp.fc1": (4, 1),
         "double_blocks.0.img_mlp.fc2": (1, 4), "double_blocks.0.img_mod.linear": (6, 1),
         "single_blocks.0.linear1": (7, 1), "single_blocks.1.linear1": (7, 1), "single_blocks.1.linear2": (1, 5),
         "single_blocks.1.modulation.linear": (3, 1), "final_layer.adaLN_modulation.1": (2, 1)}
RANK, ALPHA = 3, 1.5


def base():
    torch.manual_seed(0)
    model = HunyuanVideoTransformer3DModel(**CONFIG).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=p[0].numel() ** -0.5 if p.dim() > 1 else 0.2)
    return model


def inputs():
    g = torch.Generator().manual_seed(1)
    randn = lambda *shape: torch.randn(*shape, generator=g)
    return dict(hidden_states=randn(1, 4, 2, 4, 6), timestep=torch.tensor([417.0]), encoder_hidden_states=randn(1, 5, 24),
                encoder_attention_mask=torch.tensor([[1, 1, 1, 1, 0]]), pooled_projections=randn(1, 20),
                guidance=torch.tensor([6016.0]))


@torch.no_grad()
def run(model):
    return model(**inputs(), return_dict=False)[0].clone()


def to_diffusers(original):
    """A LoRA in Tencent's names under diffusers' names, by diffusers' own conversion, which knows one width only.

    Two layers are converted here by what its table says: it would exchange the halves of the final layer's A as well as
    B's, and would cut the A of the refiner's fused layer in three as well as its B; either mixes up the ranks.
    """
    original = {key.removeprefix("diffusion_model."): value for key, value in original.items()}
    state = {}
    for key in list(original):
        layer, matrix = key.split(".lora_")
        if layer == "final_layer.adaLN_modulation.1":
            value = original.pop(key)
            value = value if matrix == "A.weight" else torch.cat(value.chunk(2)[::-1])
            state[f"transformer.norm_out.linear.lora_{matrix}"] = value
        elif layer.endswith("self_attn_qkv"):
            value = original.pop(key)
            block = layer.split(".")[3]
            parts = [value] * 3 if matrix == "A.weight" else value.chunk(3)
            for name, part in zip("qkv", parts):
                target = f"transformer.context_embedder.token_refiner.refiner_blocks.{block}.attn.to_{name}"
                state[f"{target}.lora_{matrix}"] = part
    source = Path(lora_conversion_utils.__file__).read_text()
    start = source.index("def _convert_hunyuan_video_lora_to_diffusers")
    end = source.index("\ndef ", start + 10)
    names = dict(vars(lora_conversion_utils))
    exec(source[start:end].replace("hidden_size = 3072", f"hidden_size = {WIDTH}"), names)
    return state | names["_convert_hunyuan_video_lora_to_diffusers"](original)


def from_kohya(kohya):
    """A LoRA in kohya's names under Tencent's, which have dots where kohya's have underscores; alpha / rank in B."""
    blocks = {"double_blocks": ["mod.linear", "attn_qkv", "attn_proj", "mlp.fc1", "mlp.fc2"],
              "single_blocks": ["linear1", "linear2", "modulation.linear"],
              "txt_in.individual_token_refiner.blocks": ["self_attn_qkv", "self_attn_proj", "mlp.fc1", "mlp.fc2",
                                                         "adaLN_modulation.1"]}
    layers = ["final_layer.adaLN_modulation.1"]
    for kind, parts in blocks.items():
        streams = ["img_", "txt_"] if kind == "double_blocks" else [""]
        layers += [f"{kind}.{i}.{stream}{part}" for i in range(2) for stream in streams for part in parts]
    original, used = {}, 0
    for layer in layers:
        flat = "lora_unet_" + layer.replace(".", "_")
        if f"{flat}.alpha" in kohya:
            down, up, alpha = (kohya[f"{flat}.{name}"] for name in ("lora_down.weight", "lora_up.weight", "alpha"))
            original |= {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up * (alpha / len(down))}
            used += 3
    assert used == len(kohya), f"layers of unknown names among {kohya.keys()}"
    return original


def check(binary):
    fixture = load_file(FIXTURES / "lora.safetensors")
    weights = {key.removeprefix("weights."): value for key, value in fixture.items() if key.startswith("weights.")}

    def output(load):
        model = base()
        model.load_state_dict(weights)
        load(model)
        return run(model)

    def difference(ours, key):
        return ((ours - fixture[key]).abs().max() / fixture[key].abs().max()).item()

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        transformer = folder / "diffusion_pytorch_model.safetensors"
        save_file(weights, transformer)
        (folder / "config.json").write_text(json.dumps({"_class_name": "HunyuanVideoTransformer3DModel"} | CONFIG))
        print(f"without a LoRA: {difference(output(lambda model: None), 'plain'):.1e}")
        formats = ["diffusers", "original", "kohya"]
        for source in formats:
            file, written = FIXTURES / f"lora_{source}.safetensors", folder / "written.safetensors"
            key = f"{source}.strength_1"

            def load(model, target):
                if target == "diffusers":
                    model.load_lora_adapter(folder, weight_name=written.name, prefix="transformer")
                    return
                state = load_file(written)
                state = to_diffusers(from_kohya(state) if target == "kohya" else state)
                model.load_lora_adapter(state, prefix="transformer")

            for target in formats:
                subprocess.run([binary, "lora", "convert", file, "--to", target, "--output", written], check=True)
                print(f"{source} to {target}: {difference(output(lambda model: load(model, target)), key):.1e}")
            subprocess.run([binary, "lora", "merge", "--device", "flex", "--quiet", "--model", transformer, "--lora", file,
                            "--output", written], check=True)
            merged = output(lambda model: model.load_state_dict(load_file(written)))
            print(f"{source}, merged: {difference(merged, key):.1e}")


def main():
    out = {f"weights.{k}": v.contiguous() for k, v in base().state_dict().items()}
    given = inputs()
    out |= dict(latents=given["hidden_states"], timestep=given["timestep"], text=given["encoder_hidden_states"],
                mask=given["encoder_attention_mask"].float(), pooled=given["pooled_projections"],
                guidance=given["guidance"], plain=run(base()))

    model = base()
    model.add_adapter(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, init_lora_weights=False,
                                 alpha_pattern={"proj_mlp": 4.5}))
    g = torch.Generator().manual_seed(2)
    for name, p in model.named_parameters():
        if "lora_" in name:
            p.data = torch.randn(p.shape, generator=g) * 0.3
    model.save_lora_adapter(FIXTURES, weight_name="lora_diffusers.safetensors")
    out["diffusers.strength_1"] = run(model)
    model.set_adapters(["default"], weights=[0.5])
    out["diffusers.strength_0.5"] = run(model)

    g = torch.Generator().manual_seed(3)
    original, kohya = {}, {}
    for layer, (rows, columns) in FUSED.items():
        down = torch.randn(RANK, columns * WIDTH, generator=g) * 0.3
        up = torch.randn(rows * WIDTH, RANK, generator=g) * 0.3
        original[f"diffusion_model.{layer}.lora_A.weight"] = down
        original[f"diffusion_model.{layer}.lora_B.weight"] = up
        flat = "lora_unet_" + layer.replace(".", "_")
        kohya |= {f"{flat}.lora_down.weight": down, f"{flat}.lora_up.weight": up, f"{flat}.alpha": torch.tensor(ALPHA)}
    state = to_diffusers(original)
    model = base()
    model.load_lora_adapter(state, prefix="transformer")
    out["original.strength_1"] = run(model)
    model.set_adapters(["default_0"], weights=[ALPHA / RANK])
    out["kohya.strength_1"] = run(model)
    save_file({k: v.contiguous() for k, v in original.items()}, FIXTURES / "lora_original.safetensors")
    save_file({k: v.contiguous() for k, v in kohya.items()}, FIXTURES / "lora_kohya.safetensors")
    save_file(out, FIXTURES / "lora.safetensors", metadata={"config": json.dumps(CONFIG)})
    for name in ["lora", "lora_diffusers", "lora_original", "lora_kohya"]:
        print(name, (FIXTURES / f"{name}.safetensors").stat().st_size)
    plain = out["plain"]
    for k, v in out.items():
        if "strength" in k:
            print(k, ((v - plain).abs().max() / plain.abs().max()).item())


if __name__ == "__main__":
    check(*sys.argv[2:]) if sys.argv[1:2] == ["check"] else main()
