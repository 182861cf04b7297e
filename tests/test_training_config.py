"""Settings of a run: defaults with reasons, every problem in one error, and what is stored can be read back."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict, fields

import pytest

from errors import ConfigError
from training.config import TrainingConfig, build, explained, settings_of
from training.dataset import LabelSummary
from training.defaults import BATCH_SIZE, MOST_STEPS, SMALL_MODEL, SMALL_WIDTH
from training.methods import METHODS, DPOConfig

DEMO = {"hidden_size": SMALL_WIDTH, "max_position_embeddings": 512}
LARGE = {"hidden_size": 4096, "max_position_embeddings": 131072}
FORTY = LabelSummary(pairs=40)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_builds_without_a_word_and_survives_being_stored(method) -> None:
    config = build(method, "demo", {}, FORTY, DEMO)
    assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert isinstance(config.loss, METHODS[method])


@pytest.mark.parametrize("method", METHODS)
def test_setting_names_are_unique_within_a_run_and_all_are_explained(method) -> None:
    names = [spec.name for spec in settings_of(method)]
    assert len(set(names)) == len(names)
    assert set(explained(method, FORTY, DEMO)) == set(names)
    assert not set(names) & {"method", "model", "loss"}
    assert all(spec.metadata["help"] for spec in settings_of(method))


@pytest.mark.parametrize("method", METHODS)
def test_defaults_for_the_demo_model_are_those_measured_on_it(method) -> None:
    config = build(method, "demo", {}, FORTY, DEMO)
    measured = SMALL_MODEL[method]
    assert config.learning_rate == measured["learning_rate"]
    assert config.loss.beta == measured.get("beta", METHODS[method]().beta)
    assert config.batch_size == BATCH_SIZE[METHODS[method].paired]
    assert config.max_length_tokens == 512


def test_the_learning_rate_falls_with_width_and_beta_is_the_papers() -> None:
    widths = (96, SMALL_WIDTH, 768, 4096)
    rates = [build("dpo", "m/x", {}, FORTY, {"hidden_size": width}).learning_rate for width in widths]
    assert rates[0] == rates[1] == SMALL_MODEL["dpo"]["learning_rate"]
    assert rates[1] > rates[2] > rates[3]
    assert 1e-5 < rates[3] < 1e-4
    assert build("dpo", "m/x", {}, FORTY, LARGE).loss.beta == DPOConfig().beta


def test_nested_text_models_are_measured_by_their_text_part() -> None:
    nested = {"text_config": {"hidden_size": 4096}}
    assert build("dpo", "m/x", {}, FORTY, nested) == build("dpo", "m/x", {}, FORTY, {"hidden_size": 4096})


def test_steps_follow_the_data_the_batch_and_the_passes_asked_for() -> None:
    assert build("dpo", "demo", {}, LabelSummary(pairs=400), DEMO).steps == 150
    assert build("dpo", "demo", {"epochs": 2}, FORTY, DEMO).steps == 10
    assert build("dpo", "demo", {"epochs": "2", "batch_size": "4"}, FORTY, DEMO).steps == 20
    assert build("dpo", "demo", {"steps": 7, "epochs": 2}, FORTY, DEMO).steps == 7
    assert build("dpo", "demo", {}, LabelSummary(pairs=5), DEMO).batch_size == 5


@pytest.mark.parametrize(
    ("summary", "share", "reason"),
    [
        (FORTY, 0.1, "about 4 of 40, by prompt"),
        (LabelSummary(pairs=20, prompts=2), 0.1, "about 2 of 20"),
        (LabelSummary(pairs=19, prompts=19), 0.0, "none below 20"),
        (LabelSummary(pairs=40, prompts=1), 0.0, "one prompt"),
    ],
)
def test_a_tenth_is_held_out_wherever_the_labels_allow_it(summary, share, reason) -> None:
    assert build("dpo", "demo", {}, summary, DEMO).held_out_share == share
    assert reason in explained("dpo", summary, DEMO)["held_out_share"].reason


def test_what_is_held_out_is_measured_at_every_quarter() -> None:
    assert build("dpo", "demo", {}, FORTY, DEMO).evaluate_every == 15
    assert build("dpo", "demo", {"steps": 5}, FORTY, DEMO).evaluate_every == 2
    assert build("dpo", "demo", {"held_out_share": 0}, FORTY, DEMO).evaluate_every == 0


def test_class_weights_are_told_before_the_start() -> None:
    told = explained("kto", LabelSummary(good=46, bad=12), DEMO)
    assert told["desirable_weight"].told == "automatic (46 good, 12 bad, so 1)"
    assert told["undesirable_weight"].told == "automatic (46 good, 12 bad, so 3.8)"
    assert explained("kto", LabelSummary(good=46), DEMO)["desirable_weight"].told == "automatic"
    by_hand = explained("kto", LabelSummary(good=46, bad=12), DEMO, chosen={"desirable_weight": 2.0})
    assert by_hand["desirable_weight"].value is None


def test_the_precision_says_what_it_means_on_the_device() -> None:
    assert explained("dpo", FORTY, DEMO, "cpu")["precision"].told == "auto (float32 on cpu)"
    assert "bfloat16" in explained("dpo", FORTY, DEMO, "cuda:1")["precision"].told
    assert "cpu" in explained("dpo", FORTY, DEMO, "cuda", {"device": "cpu"})["precision"].told


def test_passes_without_end_stay_within_the_bound() -> None:
    assert build("dpo", "demo", {"epochs": 10**5}, LabelSummary(pairs=10**6), DEMO).steps == MOST_STEPS


def test_what_the_user_sets_wins_and_texts_are_read_as_numbers() -> None:
    changed = {"beta": "0.5", "steps": "12", "device": "cpu", "seed": "", "lora_rank": None}
    config = build("dpo", " demo ", changed, FORTY)
    assert (config.loss.beta, config.steps, config.device, config.seed, config.lora_rank) == (0.5, 12, "cpu", 0, 8)
    assert config.model == "demo"


@pytest.mark.parametrize(("text", "value"), [("yes", True), (" True ", True), ("1", True), (True, True), ("off", 0)])
def test_a_switch_is_read_from_words_and_from_a_checkbox(text, value) -> None:
    assert build("dpo", "demo", {"lora_dora": text}).lora_dora is bool(value)


def test_a_bound_is_named_in_plain_figures() -> None:
    with pytest.raises(ConfigError, match="steps must be at most 10,000,000, not 1e\\+12"):
        build("dpo", "demo", {"steps": 10**12})


def test_four_bits_are_refused_before_the_start_where_they_cannot_be_had(monkeypatch) -> None:
    with pytest.raises(ConfigError, match="needs an NVIDIA GPU, not cpu"):
        build("dpo", "demo", {"quantization": "4bit", "device": "cpu"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install bitsandbytes.*or set quantization to none"):
        build("dpo", "demo", {"quantization": "4bit", "device": "cuda"})


def test_one_error_lists_every_problem() -> None:
    with pytest.raises(ConfigError) as caught:
        build("dpo", "demo", {"betta": 1, "beta": 0, "label_smoothing": 0.5, "steps": "many", "lora_rank": 1.5})
    problems = caught.value.problems
    assert len(problems) == 5
    assert "did you mean 'beta'" in problems[0]
    assert problems[1] == "beta must be more than 0, not 0"
    assert problems[2] == "label_smoothing must be less than 0.5, not 0.5"
    assert problems[3] == "steps must be a whole number, not 'many'"


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [
        ("simpo", "gamma", -1), ("kto", "reference_point", "median"), ("ipo", "form", "token"), ("dpo", "beta", "nan"),
        ("dpo", "learning_rate", "inf"), ("dpo", "lora_dropout", 1), ("kto", "desirable_weight", 0),
        ("dpo", "steps", 0), ("simpo", "label_smoothing", 0.1), ("dpo", "seed", 10**400), ("dpo", "seed", -1),
        ("dpo", "steps", 10**12), ("dpo", "precision", "fp8"), ("dpo", "quantization", "3bit"), ("dpo", "devices", 0),
        ("dpo", "lora_dora", "perhaps"), ("dpo", "checkpoint_seconds", -1), ("dpo", "evaluate_every", 0.5),
    ],
)
def test_a_value_that_cannot_be_is_refused(method, name, value) -> None:
    with pytest.raises(ConfigError, match=name):
        build(method, "demo", {name: value})


def test_an_unknown_method_or_no_model_is_refused_with_advice() -> None:
    with pytest.raises(ConfigError, match="did you mean 'dpo'"):
        build("dppo", "demo")
    with pytest.raises(ConfigError, match="Name a model"):
        build("dpo", " ")


def test_stored_settings_of_another_version_are_refused() -> None:
    stored = {**build("dpo", "demo").to_dict(), "flux": 1}
    with pytest.raises(ConfigError, match="flux"):
        TrainingConfig.from_dict(stored)


def test_each_bound_of_each_setting_is_itself_kept() -> None:
    """A default outside its own bounds could never be set again by hand."""
    for method in METHODS:
        defaults = {spec.name: spec.default for spec in settings_of(method) if spec.default is not None}
        built = build(method, "demo", defaults)
        values = {**asdict(built), **asdict(built.loss)}
        assert {name: values[name] for name in defaults} == defaults


def test_the_config_hides_no_field_from_the_user() -> None:
    assert {spec.name for spec in fields(TrainingConfig) if "help" not in spec.metadata} == {"method", "model", "loss"}
