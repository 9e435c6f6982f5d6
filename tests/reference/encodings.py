"""Writes the fixtures of `tests/checkpoint/encodings.rs`: numbers as compressed checkpoints store them.

Usage: python tests/reference/encodings.py

encodings/blocks.gguf: random blocks of every type that is read; blocks.safetensors: their values by `gguf`.
encodings/fp8.safetensors: every finite fp8 number, with and without ComfyUI's scales; values.safetensors: by torch.
encodings/quantized.safetensors: a matrix, what `gguf` and torch make of it in fewer bits, and its values then.
encodings/transformer.gguf: the transformer of `checkpoints/tencent` as city96's files hold it.
encodings/tencent_fp8.pt: weights of two layers, saved as Tencent publishes float8, with tencent_fp8_map.pt;
tencent_fp8.safetensors: what its program computes with in bf16.
encodings/llama.gguf: a LLaMA with llama.cpp's names and order of rows; llama.safetensors: with transformers'.
"""
import json
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaModel

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
OUT = FIXTURES / "encodings"
TYPES = [Type.F32, Type.F16, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0, Type.Q2_K, Type.Q3_K,
         Type.Q4_K, Type.Q5_K, Type.Q6_K, Type.IQ4_NL, Type.IQ4_XS]
# Where the f16 scales of a block are.
SCALES = {Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0], Type.Q2_K: [80, 82],
          Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208], Type.IQ4_NL: [0], Type.IQ4_XS: [0]}
ROWS, COLUMNS = 3, 512


def blocks():
    rng = np.random.default_rng(0)
    writer, expected = gguf.GGUFWriter(OUT / "blocks.gguf", "hyvid"), {}
    for i, kind in enumerate(TYPES):
        values = rng.standard_normal((ROWS, COLUMNS)).astype(np.float32)
        if kind in SCALES:
            length, size = gguf.GGML_QUANT_SIZES[kind]
            data = rng.integers(0, 256, (ROWS, COLUMNS // length, size), dtype=np.uint8)
            for at in SCALES[kind]:
                scale = rng.standard_normal(data.shape[:2]).astype(np.float16)
                data[..., at:at + 2] = scale[..., None].view(np.uint8)
            data = data.reshape(ROWS, -1)
        else:
            data = gguf.quants.quantize(values, kind)
        writer.add_tensor(f"matrices.{i}", data, raw_dtype=kind)
        expected[f"matrices.{i}"] = torch.from_numpy(gguf.quants.dequantize(data, kind).astype(np.float32))
    close(writer)
    save_file(expected, OUT / "blocks.safetensors", metadata={"config": json.dumps([kind.name for kind in TYPES])})


def close(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def fp8():
    stored, expected = {}, {}
    for i, (dtype, scale) in enumerate([(torch.float8_e4m3fn, None), (torch.float8_e5m2, None),
                                        (torch.float8_e4m3fn, "scale_weight"), (torch.float8_e4m3fn, "weight_scale")]):
        numbers = torch.arange(256, dtype=torch.uint8).view(dtype).float()
        numbers = numbers[numbers.isfinite()][:240].reshape(15, 16)
        stored[f"layers.{i}.weight"] = numbers.to(dtype)
        expected[f"layers.{i}.weight"] = numbers
        if scale:
            stored[f"layers.{i}.{scale}"] = torch.tensor(0.37)
            expected[f"layers.{i}.weight"] = numbers * 0.37
    stored["layers.2.scale_input"] = torch.tensor(1.0)
    stored["layers.3.comfy_quant"] = torch.tensor(list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8)
    stored["scaled_fp8"] = torch.zeros(2).to(torch.float8_e4m3fn)
    save_file(stored, OUT / "fp8.safetensors")
    save_file(expected, OUT / "values.safetensors")


def quantized():
    rng = np.random.default_rng(1)
    # Rows of very different sizes, one of zeros, and a block with ties.
    matrix = (rng.standard_normal((16, 96)) * 10.0 ** rng.integers(-6, 3, (16, 1))).astype(np.float32)
    matrix[3] = 0
    matrix[5, :32] = np.arange(32) - 15.5
    out = {"matrix": torch.from_numpy(matrix)}
    for name, kind in (("int8", Type.Q8_0), ("int4", Type.Q4_0)):
        data = gguf.quants.quantize(matrix, kind)
        out[f"{name}.bytes"] = torch.from_numpy(data)
        out[f"{name}.values"] = torch.from_numpy(gguf.quants.dequantize(data, kind))
    scale = out["matrix"].abs().max() / torch.finfo(torch.float8_e4m3fn).max
    fp8 = (out["matrix"] / scale).to(torch.float8_e4m3fn)
    out["fp8.bytes"], out["fp8.values"] = fp8.view(torch.uint8), fp8.float() * scale
    save_file(out, OUT / "quantized.safetensors")


def transformer():
    state = torch.load(FIXTURES / "checkpoints/tencent/hunyuan-video-t2v-720p/transformers/mp_rank_00_model_states.pt")
    writer = gguf.GGUFWriter(OUT / "transformer.gguf", "hyvid")
    for name, value in state["module"].items():
        shape, value = tuple(value.shape), value.float().numpy()
        if value.ndim > 4:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(shape))
            value = value.reshape(shape[0] * shape[1], -1)
        writer.add_tensor(name, gguf.quants.quantize(value, Type.BF16), raw_dtype=Type.BF16)
    close(writer)


def tencent_fp8():
    torch.manual_seed(2)
    state, scales, expected = {}, {}, {}
    for layer, shape in (("double_blocks.0.img_attn_qkv", (48, 16)), ("single_blocks.0.modulation.linear", (24, 16))):
        weight = torch.randn(shape, dtype=torch.bfloat16)
        # Not representable in bf16, so that where the scale is rounded matters.
        scale = weight.float().abs().max() / torch.finfo(torch.float8_e4m3fn).max
        fp8 = (weight.float() / scale).to(torch.float8_e4m3fn)
        state[f"{layer}.weight"], state[f"{layer}.bias"] = fp8, torch.randn(shape[0], dtype=torch.bfloat16)
        scales[layer] = scale
        expected[f"{layer}.weight"] = fp8.to(torch.bfloat16) * scale.to(torch.bfloat16)
        expected[f"{layer}.bias"] = state[f"{layer}.bias"]
    torch.save({"module": state}, OUT / "tencent_fp8.pt")
    torch.save(scales, OUT / "tencent_fp8_map.pt")
    save_file(expected, OUT / "tencent_fp8.safetensors")


def llama():
    torch.manual_seed(1)
    heads, kv_heads = 4, 2
    model = LlamaModel(LlamaConfig(vocab_size=20, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                                   num_attention_heads=heads, num_key_value_heads=kv_heads))
    state = {name: torch.randn(value.shape) for name, value in model.state_dict().items()}
    save_file(state, OUT / "llama.safetensors")
    writer = gguf.GGUFWriter(OUT / "llama.gguf", "llama")
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    for name, value in state.items():
        value, of_kind = value.numpy(), {"q_proj": heads, "k_proj": kv_heads}.get(name.split(".")[-2])
        if of_kind:
            # llama.cpp's conversion: the two halves of a head become pairs of neighbours.
            value = value.reshape(of_kind, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
        writer.add_tensor(names.get_name(name.removesuffix(".weight")) + ".weight", np.ascontiguousarray(value))
    writer.add_tensor("rope_freqs.weight", np.ones(4, dtype=np.float32))
    close(writer)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    blocks(), fp8(), quantized(), transformer(), tencent_fp8(), llama()
    for path in sorted(OUT.iterdir()):
        print(path.name, path.stat().st_size)
