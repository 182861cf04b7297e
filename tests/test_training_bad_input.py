"""Bad settings, labels and models, each through the way a user brings them in.

Every one is an error that says what to do, or an exclusion that is counted and listed with its label; no traceback,
nothing dropped in silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from tokenizers import normalizers
from tests.tiny_models import CHATML, save_tiny_model, tiny_tokenizer
from tests.training_world import add_label, label_pairs, label_singles, tiny_config

from commands import cli
from errors import AppError, ConfigError
from storage import Project, Run, Store
from training import job, run, view
from training.methods import METHODS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def trained(store: Store, project: Project, model: Path, method: str = "dpo", **overrides: object) -> tuple[Run, str]:
    """Train as the page does, in this process; return the run and its log."""
    created = job.create(store, project, tiny_config(store, project, method, model, steps=2, **overrides))
    return run.execute(store, created.id), job.log_tail(store, created.id)


def failed(store: Store, project: Project, model: Path, method: str = "dpo", **overrides: object) -> str:
    """Train, expect a failure without a traceback, and return its message."""
    ended, log = trained(store, project, model, method, **overrides)
    assert ended.state == "failed" and "Traceback" not in log and ended.message in log
    return ended.message


def label_of(store: Store, project: Project, question: str) -> int:
    """The number of the label whose prompt is a question."""
    rows = store.labels.judged(project.id)
    return next(row["label_id"] for row in rows if row["messages"][-1]["content"] == question)


# Labels

LONG = "long " * 200
UNUSABLE = {
    "empty": (("Yes.", " \n"), {}),
    "the same to this model's tokenizer": (("e\u0301", "\u00e9"), {}),
    "longer than max_length_tokens": (("Yes.", LONG), {"max_length_tokens": 128}),
    "with no room for the question within max_length_tokens": (("x" * 118, "No."), {"max_length_tokens": 128}),
    "refused by the chat template": (("Yes.", "No."), {}),
}


@pytest.mark.parametrize("reason", UNUSABLE)
def test_a_pair_that_cannot_be_used_is_left_out_counted_and_listed(reason, store, project, model, tmp_path) -> None:
    label_pairs(store, project, 3)
    texts, settings = UNUSABLE[reason]
    question = "SHOUT?"
    add_label(store, project, question, texts, "chosen")
    odd = changed(model, tmp_path / "odd", odd_tokenizer(refuses="refused" in reason))
    ended, log = trained(store, project, odd, **settings)
    assert ended.state == "finished", ended.message
    assert f"1 left out (1 {reason}): labels {label_of(store, project, question)}." in log
    assert f"1 left out (1 {reason})." in ended.message


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_single_response_is_left_out_counted_and_listed(text, store, project, model) -> None:
    label_singles(store, project, 3, 2)
    add_label(store, project, "Odd one?", (text,), "bad")
    ended, log = trained(store, project, model, "kto")
    assert ended.state == "finished", ended.message
    assert f"1 left out (1 empty): labels {label_of(store, project, 'Odd one?')}." in log
    assert "KTO: 3 good, 2 bad" in log


def test_a_prompt_longer_than_the_model_loses_its_beginning_and_is_listed(store, project, tmp_path) -> None:
    model = save_tiny_model(tmp_path / "short", max_position_embeddings=96)
    label_pairs(store, project, 3)
    question = f"{LONG}?".strip()
    add_label(store, project, question, ("Yes, please.", "No."), "chosen")
    ended, log = trained(store, project, model, max_length_tokens=500)
    assert ended.state == "finished", ended.message
    assert "reads 96 tokens" in log
    number = label_of(store, project, question)
    assert f"1 with a prompt that lost its beginning, to fit into max_length_tokens: labels {number}." in log


def test_one_class_for_kto_is_refused_before_a_run_exists_and_after_exclusions(store, project, model) -> None:
    label_singles(store, project, 3, 0)
    with pytest.raises(ConfigError, match="all here are good: mark some bad ones"):
        trained(store, project, model, "kto")
    assert store.runs.list() == []
    add_label(store, project, "Odd one?", (" ",), "bad")
    message = failed(store, project, model, "kto")
    assert "needs both good and bad answers" in message and "1 empty): labels 4" in message


@pytest.mark.parametrize("method", [name for name, config in METHODS.items() if config.paired])
def test_fewer_than_two_pairs_are_refused_before_a_run_exists(method, store, project, model) -> None:
    add_label(store, project, "Only one?", ("Yes.", "No."), "chosen")
    add_label(store, project, "Tie?", ("one", "two"), "tie")
    with pytest.raises(ConfigError, match="at least two pairs"):
        trained(store, project, model, method)
    assert store.runs.list() == []


def test_fewer_than_two_pairs_after_exclusions_are_an_error_that_says_why(store, project, model) -> None:
    add_label(store, project, "First?", ("Yes.", "No."), "chosen")
    add_label(store, project, "Second?", ("Yes.", " "), "chosen")
    assert "needs at least two pairs, and 1 usable" in failed(store, project, model)


# Models


def changed(model: Path, target: Path, tokenizer: object) -> Path:
    """A copy of a model with another tokenizer."""
    target.mkdir()
    for path in model.iterdir():
        if "token" not in path.name and not path.name.startswith("chat_template"):
            (target / path.name).write_bytes(path.read_bytes())
    tokenizer.save_pretrained(target)
    return target


def odd_tokenizer(refuses: bool) -> object:
    """Two ways to write é become the same tokens, as with SentencePiece models; a template may refuse who shouts."""
    strict = "{% if 'SHOUT' in messages[0]['content'] %}{{ raise_exception('no shouting') }}{% endif %}"
    tokenizer = tiny_tokenizer((strict if refuses else "") + CHATML)
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def without(**removed: None) -> Callable[[], object]:
    def made() -> object:
        tokenizer = tiny_tokenizer(CHATML if "chat_template" not in removed else None)
        for name in removed.keys() - {"chat_template"}:
            setattr(tokenizer, name, None)
        return tokenizer

    return made


def endless() -> object:
    """No end-of-sequence token, and a template whose turns end with plain text."""
    template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}assistant: "
    tokenizer = tiny_tokenizer(template.replace("assistant: ", "{{ 'assistant: ' if add_generation_prompt }}"))
    tokenizer.eos_token = None
    return tokenizer


@pytest.mark.parametrize("method", ["dpo", "kto"])
@pytest.mark.parametrize("removed", ["pad_token", "eos_token"])
def test_a_tokenizer_without_pad_or_without_eos_trains_where_its_turns_have_an_end(
    method, removed, store, project, model, tmp_path
) -> None:
    """Padding is masked and the template writes the end of a turn, so neither token is needed."""
    label_pairs(store, project, 4)
    ended, _ = trained(store, project, changed(model, tmp_path / "m", without(**{removed: None})()), method)
    assert ended.state == "finished", ended.message


@pytest.mark.parametrize(
    ("tokenizer", "words"),
    [
        (without(chat_template=None), "has no chat template.*instruction-tuned"),
        (without(pad_token=None, eos_token=None), "has no end-of-sequence token. Name one"),
        (endless, "no token that ends an answer. Name one as its eos_token"),
    ],
    ids=["no chat template", "neither pad nor eos", "no end of an answer"],
)
def test_a_tokenizer_that_cannot_hold_a_conversation_is_an_error_that_says_what_to_do(
    tokenizer, words, store, project, model, tmp_path
) -> None:
    label_pairs(store, project, 3)
    assert re.search(words, failed(store, project, changed(model, tmp_path / "m", tokenizer())))


@pytest.mark.parametrize("targets", ["q_prog", "q_proj,q_prog", ",", "lm_head"])
def test_targets_that_match_nothing_are_an_error_that_names_what_there_is(targets, store, project, model) -> None:
    label_pairs(store, project, 3)
    message = failed(store, project, model, lora_targets=targets)
    assert "lora_targets" in message and "There are: q_proj, k_proj" in message


# Settings

SETTINGS = [
    ("dpo", {"beta": 0}, "beta must be more than 0"),
    ("dpo", {"beta": "-0.1"}, "beta must be more than 0"),
    ("simpo", {"gamma": "-0.5"}, "gamma must be at least 0"),
    ("dpo", {"label_smoothing": 0.5}, "label_smoothing must be less than 0.5"),
    ("robust", {"label_smoothing": "0.7"}, "label_smoothing must be less than 0.5"),
    ("dpo", {"label_smoothing": -0.1}, "label_smoothing must be at least 0"),
    ("dpo", {"betta": 0.1}, "no setting 'betta' for dpo .did you mean 'beta'"),
    ("dpo", {"gamma": 1}, "no setting 'gamma' for dpo"),
    ("dpo", {"steps": 0}, "steps must be at least 1"),
    ("dpo", {"steps": "1.5"}, "steps must be a whole number"),
    ("dpo", {"steps": "1e12"}, "steps must be at most 10,000,000"),
    ("dpo", {"beta": "1e300"}, "beta must be at most"),
    ("dpo", {"seed": "9" * 400}, "seed must be a whole number, not '9{40}'"),
    ("dpo", {"batch_size": -8}, "batch_size must be at least 1"),
    ("kto", {"desirable_weight": 0}, "desirable_weight must be more than 0"),
    ("kto", {"reference_point": "median"}, "reference_point must be one of kl, zero"),
    ("ipo", {"form": "token"}, "form must be one of sum, mean, reward"),
    ("dpo", {"precision": "int8"}, "precision must be one of auto, float32, bfloat16, float16"),
    ("dpo", {"quantization": "4bit"}, "quantization 4bit needs an NVIDIA GPU"),
    ("dpo", {"lora_dora": "maybe"}, "lora_dora must be yes or no"),
    ("dpo", {"device": "toaster"}, '"toaster" is no device'),
    *(("dpo", {"beta": text}, "beta must be a number") for text in ("nan", "inf", "-inf", "much", "0x1")),
    *(("dpo", {"learning_rate": text}, "learning_rate must be a number") for text in ("nan", "1e999")),
]


@pytest.mark.parametrize(("method", "settings", "words"), SETTINGS, ids=str)
def test_a_setting_that_cannot_be_is_refused_on_the_page_and_on_the_command_line(
    method, settings, words, store, project, model
) -> None:
    label_pairs(store, project, 3)
    given = {"device": "cpu", **{name: str(value) for name, value in settings.items()}}
    fields = {spec.name for spec in view.settings_of(method)}
    if "device" not in settings and given.keys() <= fields:  # the page has no field for what the method does not have
        with pytest.raises(ConfigError, match=words):
            view.configured(store, project.id, method, str(model), given)
    arguments = ["--project", project.name, "--method", method, "--model", str(model), "--data", str(store.folder)]
    changes = [f"--set={name}={value}" for name, value in given.items()]
    result = CliRunner().invoke(cli, ["train", *arguments, *changes])
    assert isinstance(result.exception, AppError), result.exception
    assert re.search(words, str(result.exception))
    assert not any(each.state == "finished" for each in store.runs.list())


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_setting_takes_its_default(empty, store, project, model) -> None:
    label_pairs(store, project, 3)
    assert view.configured(store, project.id, "dpo", str(model), {"beta": empty}).loss.beta == 1.0


def test_every_problem_is_told_at_once(store, project, model) -> None:
    label_pairs(store, project, 3)
    with pytest.raises(ConfigError) as caught:
        view.configured(store, project.id, "dpo", str(model), {"beta": "0", "steps": "0", "lora_rank": "x"})
    assert len(caught.value.problems) == 3


def test_stored_settings_that_this_version_does_not_know_fail_the_run_with_words(store, project, model) -> None:
    label_pairs(store, project, 3)
    config = tiny_config(store, project, "dpo", model)
    labels = [row["label_id"] for row in store.labels.judged(project.id)]
    created = store.runs.create(project.id, "dpo", str(model), {**config.to_dict(), "flux": 1}, labels)
    ended = run.execute(store, created.id)
    assert ended.state == "failed" and "flux" in ended.message and "Traceback" not in job.log_tail(store, created.id)
