"""Writes the fixture of `tests/lora.rs`: one LoRA on a small diffusion transformer, in the formats of several programs.

Usage: python tests/reference/lora.py

lora.safetensors: the transformer's weights, its inputs, and its output with the LoRA active in diffusers at strength
1.0 and 0.5.
lora_diffusers.safetensors: the LoRA as diffusers saves it, with its metadata.
lora_original.safetensors: a LoRA on the layers that Tencent fuses, in their names; the output with it is in
lora.safetensors, computed by diffusers after its own conversion to its layers.
lora_kohya.safetensors: the same in kohya's names, with an alpha.
"""
import json
from pathlib import Path

import torch
from diffusers import HunyuanVideoTransformer3DModel
from diffusers.loaders import lora_conversion_utils
from peft import LoraConfig
from safetensors.torch import save_file

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
    # diffusers' conversion knows one width only, and would exchange the halves of the final layer's A as well as B's;
    # both halves of its rank are mixed then, so that layer is converted here by what its table says.
    final = {k: original.pop(k) for k in list(original) if "final_layer" in k}
    source = Path(lora_conversion_utils.__file__).read_text()
    start = source.index("def _convert_hunyuan_video_lora_to_diffusers")
    end = source.index("\ndef ", start + 10)
    names = dict(vars(lora_conversion_utils))
    exec(source[start:end].replace("hidden_size = 3072", f"hidden_size = {WIDTH}"), names)
    state = names["_convert_hunyuan_video_lora_to_diffusers"](
        {k.replace("diffusion_model.", ""): v for k, v in original.items()})
    a, b = (final[f"diffusion_model.final_layer.adaLN_modulation.1.lora_{m}.weight"] for m in "AB")
    state["transformer.norm_out.linear.lora_A.weight"] = a
    state["transformer.norm_out.linear.lora_B.weight"] = torch.cat(b.chunk(2)[::-1])
    model = base()
    model.load_lora_adapter(state, prefix="transformer")
    out["original.strength_1"] = run(model)
    model.set_adapters(["default_0"], weights=[ALPHA / RANK])
    out["kohya.strength_1"] = run(model)
    original |= final
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
    main()
