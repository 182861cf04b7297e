"""The demo model's tokenizer and chat template.

Owns the special tokens, the pieces words are cut into and the layout of a
conversation. It does not know what the conversations say.
"""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from demo.knowledge import Message

PAD, SYSTEM, USER, ASSISTANT, END = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
ROLE_TOKENS = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}
# One piece per digit, per Chinese character, per word with its space, per run of other marks.
PIECE = r"\d|[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]| ?[A-Za-z]+|'[a-z]+| ?[^\sA-Za-z\d\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]+|\s"
# The generation marks tell which tokens the model wrote: the text of an answer and its end.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{- message['content'] + '<|end|>' -}}{%- endgeneration -%}"
    "{%- else -%}"
    "{{- message['content'] + '<|end|>' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def train_tokenizer(corpus: Iterable[list[Message]], vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of `vocabulary` tokens learnt from the messages."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PIECE), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, SYSTEM, USER, ASSISTANT, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((message["content"] for conversation in corpus for message in conversation), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        model_max_length=1_024,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def encode_conversations(
    tokenizer: PreTrainedTokenizerFast, corpus: Iterable[list[Message]]
) -> list[tuple[list[int], list[int]]]:
    """Return the token ids of each conversation and a mask that is 1 where the model wrote.

    Lays tokens out as the chat template does, many times faster.
    """
    rows = []
    ids_of = {role: tokenizer.convert_tokens_to_ids(token) for role, token in ROLE_TOKENS.items()}
    for conversation in corpus:
        ids: list[int] = []
        mask: list[int] = []
        encoded = tokenizer([message["content"] for message in conversation], add_special_tokens=False)["input_ids"]
        for message, content in zip(conversation, encoded):
            written = int(message["role"] == "assistant")
            ids += [ids_of[message["role"]], *content, tokenizer.eos_token_id]
            mask += [0] + [written] * (len(content) + 1)
        rows.append((ids, mask))
    return rows
