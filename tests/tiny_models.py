"""Tiny random models with a byte-level tokenizer and a chat template, made in a folder for a test.

No network, no fixed files: the same arguments always give the same weights. Importing this module imports torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL_TOKENS = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]


def tiny_tokenizer(chat_template: str | None = CHATML) -> transformers.PreTrainedTokenizerFast:
    """Return a tokenizer of one token per byte (so a Chinese character has three), plus SPECIAL_TOKENS.

    The end-of-turn token `<|im_end|>` is the end-of-sequence token.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS[:3], *alphabet, "th", "he"])}
    backend = Tokenizer(models.BPE(vocabulary, [("t", "h"), ("h", "e")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = chat_template
    return tokenizer


def tiny_model(kind: str = "llama", seed: int = 0, **overrides: Any) -> transformers.PreTrainedModel:
    """Return a random float32 model in eval mode: "llama", "qwen2", "gemma2", "gpt2", "mistral", …

    Its weights are large enough that greedy answers differ between prompts and do not repeat one token for ever.
    overrides: fields of the model's config.
    """
    sizes: dict[str, Any] = {
        "vocab_size": len(tiny_tokenizer()),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 2,
    }
    if kind.startswith("gemma"):
        sizes["head_dim"] = 8
    if kind == "gpt2":
        sizes |= {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "n_inner": 48}
        for name in ("hidden_size", "intermediate_size", "num_key_value_heads", "max_position_embeddings"):
            del sizes[name]
        del sizes["num_hidden_layers"], sizes["num_attention_heads"]
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(kind, **{**sizes, **overrides})
    return transformers.AutoModelForCausalLM.from_config(config).float().eval()


def save_tiny_model(folder: Path, kind: str = "llama", seed: int = 0, **overrides: Any) -> Path:
    """Save a tiny model with its tokenizer into a folder as transformers reads it, and return the folder."""
    model = tiny_model(kind, seed, **overrides)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def save_tiny_adapter(model_folder: Path, folder: Path, seed: int = 0, rank: int = 4, **overrides: Any) -> Path:
    """Save a LoRA adapter with random weights, strong enough to change greedy answers, and return its folder.

    overrides: fields of peft's LoraConfig; by default every linear layer is adapted.
    """
    import peft

    base = transformers.AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    settings = {"r": rank, "lora_alpha": 2 * rank, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    adapted = peft.get_peft_model(base, peft.LoraConfig(**{**settings, **overrides}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    adapted.save_pretrained(folder)
    return folder
