"""The committed demo model: small, standard, well templated, and good at what it was taught."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo.corpus import conversations
from demo.evaluate import MODEL_FOLDER, sample
from demo.knowledge import Message
from demo.meter import manner_of, measure
from demo.prompts import HELD_OUT, STARTERS, SUGGESTIONS, parse_prompt
from demo.tokenizer import encode_conversations


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL_FOLDER)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(MODEL_FOLDER, dtype=torch.float32).eval()


def rendered(tokenizer, messages: list[Message], **options) -> list[int]:
    return tokenizer.apply_chat_template(messages, return_dict=True, **options)["input_ids"]


def test_the_whole_folder_fits_in_eight_megabytes():
    assert sum(path.stat().st_size for path in MODEL_FOLDER.iterdir()) < 8_000_000


def test_the_model_is_a_plain_llama_without_code_of_its_own():
    config = json.loads((MODEL_FOLDER / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert "auto_map" not in config
    assert config["max_position_embeddings"] >= 512
    assert not list(MODEL_FOLDER.glob("*.py"))


def test_the_end_marker_is_the_eos_and_padding_is_another_token(tokenizer, model):
    assert tokenizer.eos_token == "<|end|>"
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    for holder in (model.config, model.generation_config):
        assert (holder.eos_token_id, holder.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)


@pytest.mark.parametrize("response", ["It is Paris.", " leading space", "Like this:\n- a\n", "谢谢！", "", "12 + 30 = 42 😀"])
def test_the_prompt_is_a_token_prefix_of_prompt_and_response(tokenizer, response):
    for prompt in (*HELD_OUT[::10], *STARTERS[-20:]):
        start = rendered(tokenizer, prompt, add_generation_prompt=True)
        whole = rendered(tokenizer, [*prompt, {"role": "assistant", "content": response}])
        assert whole[: len(start)] == start
        assert whole[-1] == tokenizer.eos_token_id and len(whole) > len(start)


def test_the_template_renders_a_system_message_before_the_question(tokenizer):
    text = tokenizer.apply_chat_template(parse_prompt("[Be brief.] | Hi!"), tokenize=False, add_generation_prompt=True)
    assert text == "<|system|>Be brief.<|end|><|user|>Hi!<|end|><|assistant|>"


def test_the_build_lays_conversations_and_masks_out_as_the_template_does(tokenizer):
    corpus = list(conversations(60, seed=8))
    for conversation, (ids, mask) in zip(corpus, encode_conversations(tokenizer, corpus)):
        templated = tokenizer.apply_chat_template(conversation, return_dict=True, return_assistant_tokens_mask=True)
        assert ids == templated["input_ids"]
        assert mask == templated["assistant_masks"]


@pytest.mark.parametrize("text", ["It is Paris.", "- a\n- b", "价格是 12 元。", "naïve café 😀", "don't  stop\t!"])
def test_any_text_survives_the_tokenizer(tokenizer, text):
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def greedy(model, tokenizer, prompt: list[Message]) -> str:
    ids = torch.tensor([rendered(tokenizer, prompt, add_generation_prompt=True)])
    written = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=120)
    return tokenizer.decode(written[0, ids.shape[1]:], skip_special_tokens=True)


@pytest.mark.parametrize(
    "question",
    [
        *SUGGESTIONS,
        "What is the capital of Japan?",
        "what's the capital of brazil",
        "How many days are there in a week?",
        "What is a volcano?",
        "What is the opposite of hot?",
        "How do I boil an egg?",
        "日本的首都是哪里？",
    ],
)
def test_the_greedy_answer_to_a_simple_question_is_right(model, tokenizer, question):
    prompt = parse_prompt(question)
    answer = greedy(model, tokenizer, prompt)
    assert measure(prompt, answer).right, answer


def test_a_follow_up_is_answered_from_its_context(model, tokenizer):
    prompt = parse_prompt("What is the capital of France? | The capital of France is Paris. | And Spain?")
    assert measure(prompt, greedy(model, tokenizer, prompt)).right


def test_sampled_answers_are_well_formed_and_of_all_three_manners(model, tokenizer):
    prompts = list(HELD_OUT[::2])
    answers = sample(model, tokenizer, prompts, temperature=0.8, seed=11)
    measures = [measure(prompt, answer) for prompt, answer in zip(prompts, answers)]
    assert sum(m.well_formed for m in measures) / len(measures) >= 0.85
    assert sum(m.right for m in measures) / len(measures) >= 0.70
    for manner in ("polite", "plain", "rude"):
        assert 0.15 <= sum(manner_of(answer) == manner for answer in answers) / len(answers) <= 0.50


def test_sampling_repeats_with_the_seed_and_leaves_the_callers_random_state_alone(model, tokenizer):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = sample(model, tokenizer, list(STARTERS[:4]), 1.0, seed=2)
    assert torch.equal(torch.rand(3), expected)
    assert first == sample(model, tokenizer, list(STARTERS[:4]), 1.0, seed=2)
