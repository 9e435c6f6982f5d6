"""Writes the fixtures of `tests/train/`: optimisation steps of torch.

Usage: python tests/reference/train.py

train/optimizer.safetensors: six steps of a two-layer perceptron under torch.optim.AdamW with warm-up, cosine decay,
clip_grad_norm_ and gradients of two halves of a batch; the losses, the norms and the weights after every step.
train/dit.safetensors: a small diffusion transformer with random weights, a batch of two clips with texts of different
lengths, the flow matching loss on it, and the gradient of every parameter.
train/lora.safetensors: the same model with a LoRA of PEFT on the attention and feed-forward layers of all blocks, the
loss, and the gradient of every matrix; the LoRA is under the names of this project.
"""
import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file

from peft import LoraConfig
from dit import inputs, random_model, run

FIXTURES = Path(__file__).parent.parent / "fixtures" / "train"


def optimizer():
    torch.manual_seed(0)
    steps, warmup = 6, 2
    config = dict(learning_rate=0.05, betas=[0.9, 0.95], eps=1e-6, weight_decay=0.1, max_norm=0.5,
                  warmup_steps=warmup, decay="cosine", final_ratio=0.1, ema_decay=0.5)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3))
    names = {"0": "fc1", "2": "fc2"}
    rename = lambda name: names[name.split(".")[0]] + "." + name.split(".")[1]
    x, y = torch.randn(steps, 2, 4, 5), torch.randn(steps, 2, 4, 3)
    record = {f"start.{rename(k)}": p.detach().clone() for k, p in model.named_parameters()} | dict(x=x, y=y)

    def ratio(done):
        if done < warmup:
            return (done + 1) / warmup
        cosine = 0.5 * (1 + math.cos(math.pi * (done - warmup) / (steps - warmup)))
        return config["final_ratio"] + (1 - config["final_ratio"]) * cosine

    adamw = torch.optim.AdamW(model.parameters(), lr=config["learning_rate"], betas=config["betas"],
                              eps=config["eps"], weight_decay=config["weight_decay"])
    schedule = torch.optim.lr_scheduler.LambdaLR(adamw, ratio)
    losses, norms = [], []
    for step in range(steps):
        halves = [torch.nn.functional.mse_loss(model(x[step, i]), y[step, i]) / 2 for i in range(2)]
        adamw.zero_grad()
        for half in halves:
            half.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"]))
        losses.append(sum(half.detach() for half in halves))
        adamw.step()
        schedule.step()
        record |= {f"step{step}.{rename(k)}": p.detach().clone() for k, p in model.named_parameters()}
    record |= dict(losses=torch.stack(losses), norms=torch.stack(norms))
    save_file(record, FIXTURES / "optimizer.safetensors", metadata={"config": json.dumps(config)})


CONFIG = dict(in_channels=3, out_channels=3, num_attention_heads=2, attention_head_dim=8, num_layers=1,
              num_single_layers=1, num_refiner_layers=1, mlp_ratio=2.0, patch_size=2, patch_size_t=1,
              guidance_embeds=True, text_embed_dim=12, pooled_projection_dim=10, rope_theta=256.0,
              rope_axes_dim=(2, 2, 4))
# diffusers' layers of the dual and the single block, and their names here.
LORA_LAYERS = {
    ("transformer_blocks.0", "dual_blocks.0"): {
        "attn.to_q": "image.q", "attn.to_k": "image.k", "attn.to_v": "image.v", "attn.to_out.0": "image.proj",
        "ff.net.0.proj": "image.mlp.fc1", "ff.net.2": "image.mlp.fc2", "attn.add_q_proj": "text.q",
        "attn.add_k_proj": "text.k", "attn.add_v_proj": "text.v", "attn.to_add_out": "text.proj",
        "ff_context.net.0.proj": "text.mlp.fc1", "ff_context.net.2": "text.mlp.fc2"},
    ("single_transformer_blocks.0", "single_blocks.0"): {
        "attn.to_q": "q", "attn.to_k": "k", "attn.to_v": "v", "proj_mlp": "mlp", "proj_out": "proj"},
}


def flow_matching(model, config):
    """A batch, and the loss on it."""
    times = torch.tensor([0.25, 0.875])
    x = inputs(config, size=(2, 4, 6), text_tokens=6, text_lengths=[4, 6], timestep=(1000 * times).tolist())
    x["clean"], x["noise"] = x["latents"], torch.randn_like(x["latents"])
    t = times[:, None, None, None, None]
    x["latents"] = (1 - t) * x["clean"] + t * x["noise"]
    guidance = torch.tensor([6000.0, 1500.0])
    loss = torch.nn.functional.mse_loss(run(model, x, guidance), x["noise"] - x["clean"])
    record = {key: x[key] for key in ("clean", "noise", "text", "mask", "pooled")}
    return loss, record | dict(times=times, guidance=guidance, loss=loss.detach().reshape(1))


def write(name, record, config):
    record = {key: value.contiguous().clone() for key, value in record.items()}
    save_file(record, FIXTURES / name, metadata={"config": json.dumps(config)})


def dit():
    model = random_model(CONFIG, seed=3)
    loss, record = flow_matching(model, CONFIG)
    loss.backward()
    record |= {f"weights.{key}": p.detach() for key, p in model.named_parameters()}
    record |= {f"gradients.{key}": p.grad for key, p in model.named_parameters()}
    write("dit.safetensors", record, CONFIG)


def lora():
    model = random_model(CONFIG, seed=3)
    record = {f"weights.{key}": p.detach() for key, p in model.named_parameters()}
    names = {f"{block}.{layer}": f"{our_block}.{ours}"
             for (block, our_block), layers in LORA_LAYERS.items() for layer, ours in layers.items()}
    rank, alpha = 3, 1.5
    model.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(names)))
    matrices = {}
    for key, p in model.named_parameters():
        if p.requires_grad:
            layer, matrix = key.removesuffix(".default.weight").rsplit(".", 1)
            torch.nn.init.normal_(p, std=0.3)
            matrices[f"{names[layer]}.{matrix}.weight"] = p
    assert len(matrices) == 2 * len(names)
    loss, batch = flow_matching(model, CONFIG)
    loss.backward()
    record |= batch | {f"weights.{key}": p.detach() for key, p in matrices.items()}
    record |= {f"gradients.{key}": p.grad for key, p in matrices.items()}
    write("lora.safetensors", record, CONFIG | dict(rank=rank, alpha=alpha))


if __name__ == "__main__":
    FIXTURES.mkdir(exist_ok=True)
    optimizer()
    dit()
    lora()
