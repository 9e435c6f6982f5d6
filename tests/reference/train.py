"""Writes the fixtures of `tests/train/`: optimisation steps of torch.

Usage: python tests/reference/train.py

train/optimizer.safetensors: six steps of a two-layer perceptron under torch.optim.AdamW with warm-up, cosine decay,
clip_grad_norm_ and gradients of two halves of a batch; the losses, the norms and the weights after every step.
train/dit.safetensors: a small diffusion transformer with random weights, a batch of two clips with texts of different
lengths, the flow matching loss on it, and the gradient of every parameter.
"""
import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file

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


def dit():
    config = dict(in_channels=3, out_channels=3, num_attention_heads=2, attention_head_dim=8, num_layers=1,
                  num_single_layers=1, num_refiner_layers=1, mlp_ratio=2.0, patch_size=2, patch_size_t=1,
                  guidance_embeds=True, text_embed_dim=12, pooled_projection_dim=10, rope_theta=256.0,
                  rope_axes_dim=(2, 2, 4))
    model = random_model(config, seed=3)
    times = torch.tensor([0.25, 0.875])
    x = inputs(config, size=(2, 4, 6), text_tokens=6, text_lengths=[4, 6], timestep=(1000 * times).tolist())
    x["clean"], x["noise"] = x["latents"], torch.randn_like(x["latents"])
    t = times[:, None, None, None, None]
    x["latents"] = (1 - t) * x["clean"] + t * x["noise"]
    guidance = torch.tensor([6000.0, 1500.0])
    loss = torch.nn.functional.mse_loss(run(model, x, guidance), x["noise"] - x["clean"])
    loss.backward()
    record = {key: x[key] for key in ("clean", "noise", "text", "mask", "pooled")}
    record |= dict(times=times, guidance=guidance, loss=loss.detach().reshape(1))
    record |= {f"weights.{key}": p.detach() for key, p in model.named_parameters()}
    record |= {f"gradients.{key}": p.grad for key, p in model.named_parameters()}
    record = {key: value.contiguous().clone() for key, value in record.items()}
    save_file(record, FIXTURES / "dit.safetensors", metadata={"config": json.dumps(config)})


if __name__ == "__main__":
    FIXTURES.mkdir(exist_ok=True)
    optimizer()
    dit()
