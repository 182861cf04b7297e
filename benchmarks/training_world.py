"""What the training benchmark trains on: lengths, random words, a tokenizer of one token per word, random models.

Every contender gets the same texts, so that all score the same tokens. Does not know who trains.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = 32_000
SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>", "user", "assistant")
TEMPLATE = (
    "{% for message in messages %}<|im_start|> {{ message['role'] }} {{ message['content'] }} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)
# Tokens that the template adds around a prompt's words and after a response's.
PROMPT_FRAME, RESPONSE_FRAME = 5, 1
LONGEST = 1024

# 24 of the 189 English preference pairs that fit into 1,000 tokens, evenly spaced by their longer row, at four
# characters a token: prompt, chosen, rejected.
LONG_LENGTHS = (
    (28, 10, 10), (34, 63, 31), (56, 94, 33), (137, 2, 93), (91, 176, 5), (203, 39, 91),
    (33, 224, 285), (45, 202, 307), (96, 286, 162), (39, 367, 221), (100, 219, 339), (227, 21, 237),
    (218, 273, 173), (105, 411, 223), (197, 326, 357), (89, 508, 71), (219, 230, 406), (150, 4, 503),
    (29, 645, 373), (578, 81, 128), (16, 745, 514), (95, 729, 423), (50, 840, 323), (502, 31, 496),
)


@dataclass(frozen=True)
class Lengths:
    """One pair's tokens, the template's among them."""

    prompt: int
    chosen: int
    rejected: int


@dataclass(frozen=True)
class PairText:
    """One pair as words."""

    prompt: str
    chosen: str
    rejected: str


SHORT = "short"
SHAPES = (SHORT, "long")
# Shapes of models: a small Llama; Qwen2 0.5 B and 1.5 B; Llama 3 8 B.
SIZES: dict[str, dict[str, object]] = {
    "26m": {
        "model_type": "llama", "num_hidden_layers": 8, "hidden_size": 384, "intermediate_size": 1024,
        "num_attention_heads": 6, "num_key_value_heads": 6, "vocab_size": WORDS, "tie_word_embeddings": True,
    },
    "0.5b": {
        "model_type": "qwen2", "num_hidden_layers": 24, "hidden_size": 896, "intermediate_size": 4864,
        "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151_936, "tie_word_embeddings": True,
    },
    "1.5b": {
        "model_type": "qwen2", "num_hidden_layers": 28, "hidden_size": 1536, "intermediate_size": 8960,
        "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151_936, "tie_word_embeddings": True,
    },
    "8b": {
        "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14_336,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256, "tie_word_embeddings": False,
    },
}


def lengths(shape: str, count: int | None = None) -> list[Lengths]:
    """Return the lengths of a shape's pairs: 64 log-normal ones, or the 24 of real pairs; more repeat them."""
    if shape == SHORT:
        source = random.Random("short pairs")
        found = [_drawn(source) for _ in range(64)]
    else:
        # Mixed, so that the first few stand for all.
        found = [Lengths(*triple) for triple in random.Random("long pairs").sample(LONG_LENGTHS, len(LONG_LENGTHS))]
    count = count or len(found)
    return [found[index % len(found)] for index in range(count)]


def _drawn(source: random.Random) -> Lengths:
    """Draw one pair: log-normal with medians 100 and 67 tokens and σ 0.55."""
    prompt, chosen, rejected = (round(source.lognormvariate(math.log(median), 0.55)) for median in (100, 67, 67))
    chosen, rejected = (min(max(2, length), LONGEST - 64) for length in (chosen, rejected))
    return Lengths(min(max(8, prompt), LONGEST - max(chosen, rejected)), chosen, rejected)


def texts(shape: str, count: int | None = None) -> list[PairText]:
    """Return random words of a shape's lengths; the same arguments give the same words."""
    source = random.Random("words")

    def words(number: int) -> str:
        return " ".join(f"w{source.randrange(WORDS - len(SPECIAL))}" for _ in range(number))

    return [
        PairText(
            words(pair.prompt - PROMPT_FRAME),
            words(pair.chosen - RESPONSE_FRAME),
            words(pair.rejected - RESPONSE_FRAME),
        )
        for pair in lengths(shape, count)
    ]


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Return a tokenizer of one token per word."""
    names = [*SPECIAL, *(f"w{number}" for number in range(WORDS - len(SPECIAL)))]
    backend = Tokenizer(models.WordLevel({name: index for index, name in enumerate(names)}, unk_token="<|pad|>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<|pad|>", eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"], clean_up_tokenization_spaces=False,
    )
    made.chat_template = TEMPLATE
    return made


def random_model(size: str, device: str, dtype: torch.dtype) -> transformers.PreTrainedModel:
    """Return a model of a size with random weights, made on the device; the same arguments give the same weights."""
    settings = dict(SIZES[size])
    config = transformers.AutoConfig.for_model(
        settings.pop("model_type"), max_position_embeddings=2048, pad_token_id=0, bos_token_id=None, eos_token_id=2,
        **settings,
    )
    torch.manual_seed(1)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model.eval().requires_grad_(False)
