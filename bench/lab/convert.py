"""A Llama model in GGUF -> the files that Hugging Face's libraries and vLLM read.

Run by the lab's own interpreter, as a script: ``convert.py MODEL.gguf TARGET ADAPTER``. It needs
gguf, torch, transformers and safetensors, and nothing of ours.
"""

import json
import sys
from pathlib import Path

import gguf
import torch
import transformers
from safetensors.torch import save_file

NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
"""A layer's parts: in GGUF, and in Hugging Face's Llama."""
TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
ADAPTER_RANK = 8


def name_of(name: str) -> str:
    """Hugging Face's name of a GGUF tensor. KeyError for an unknown one."""
    if name in TOP:
        return TOP[name]
    _, layer, part, _ = name.split(".")  # blk.N.PART.weight
    return f"model.layers.{layer}.{NAMES[part]}.weight"


def unpermuted(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Query or key weights (out, in) with rotary pairs as halves; GGUF interleaves them."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.transpose(1, 2).reshape(rows, columns)


def config_of(reader: gguf.GGUFReader) -> dict[str, object]:
    """Hugging Face's configuration, from the file's own description."""

    def value(key: str) -> object:
        return reader.fields[f"llama.{key}"].contents()

    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": value("embedding_length"),
        "intermediate_size": value("feed_forward_length"),
        "num_hidden_layers": value("block_count"),
        "num_attention_heads": value("attention.head_count"),
        "num_key_value_heads": value("attention.head_count_kv"),
        "rms_norm_eps": value("attention.layer_norm_rms_epsilon"),
        "rope_theta": value("rope.freq_base"),
        "max_position_embeddings": value("context_length"),
        "vocab_size": len(reader.fields["tokenizer.ggml.tokens"].data),
        "bos_token_id": int(reader.fields["tokenizer.ggml.bos_token_id"].contents()),
        "eos_token_id": int(reader.fields["tokenizer.ggml.eos_token_id"].contents()),
        "tie_word_embeddings": all(one.name != "output.weight" for one in reader.tensors),
        "torch_dtype": "bfloat16",
    }


def convert(source: Path, target: Path) -> dict[str, object]:
    """Write weights, configuration and tokenizer; gives the configuration."""
    target.mkdir(parents=True, exist_ok=True)
    reader = gguf.GGUFReader(source)
    config = config_of(reader)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    tensors = {}
    for one in reader.tensors:
        values = gguf.dequantize(one.data, one.tensor_type)
        weight = torch.from_numpy(values.copy()).reshape(*reversed(one.shape.tolist()))
        part = one.name.split(".")[-2]
        if part in heads:
            weight = unpermuted(weight, int(str(heads[part])))
        tensors[name_of(one.name)] = weight.to(torch.bfloat16).contiguous()
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    tokenizer = transformers.AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    tokenizer.save_pretrained(target)
    (target / "config.json").write_text(json.dumps(config, indent=2))
    return config


def make_adapter(config: dict[str, object], model: Path, target: Path) -> None:
    """Write a LoRA adapter that changes nothing: its second factor is zero.

    What matters is that an engine loads and lists it.
    """
    target.mkdir(parents=True, exist_ok=True)
    hidden = int(str(config["hidden_size"]))
    torch.manual_seed(0)
    tensors = {}
    for layer in range(int(str(config["num_hidden_layers"]))):
        prefix = f"base_model.model.model.layers.{layer}.self_attn.o_proj"
        tensors[f"{prefix}.lora_A.weight"] = torch.randn(ADAPTER_RANK, hidden) * 0.01
        tensors[f"{prefix}.lora_B.weight"] = torch.zeros(hidden, ADAPTER_RANK)
    save_file(tensors, target / "adapter_model.safetensors", metadata={"format": "pt"})
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(model),
        "r": ADAPTER_RANK,
        "lora_alpha": ADAPTER_RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["o_proj"],
    }
    (target / "adapter_config.json").write_text(json.dumps(described, indent=2))


if __name__ == "__main__":
    _source, _target, _adapter = (Path(word) for word in sys.argv[1:])
    make_adapter(convert(_source, _target), _target, _adapter)
