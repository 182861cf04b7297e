"""The loop on a tiny random model: what it logs, what it saves, and what changes nothing."""

from __future__ import annotations

import json
import math

import peft
import pytest
import torch
from safetensors.torch import load_file
from tests.tiny_models import save_tiny_model

from errors import ConfigError, TrainingError
from models.loading import load_base
from models.logps import collate, response_logps
from training import adapter
from training.config import TrainingConfig, build
from training.dataset import PairedExample, UnpairedExample
from training.learner import learning_rate_at
from training.material import gather
from training.reference import row_key
from training.scoring import Scorer
from training.trainer import TrainingResult, train


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("tiny") / "model"))


def ask(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Question {number}?"}]


PAIRS = [
    PairedExample(number, number, ask(number), f"Yes, please. {'So ' * number}", f"No {number}.")
    for number in range(6)
]
SINGLES = [
    UnpairedExample(number, number, ask(number), f"answer {'x' * number}", number % 3 > 0) for number in range(9)
]


def config(model: str, method: str = "dpo", **overrides: object) -> TrainingConfig:
    settings = {"steps": 3, "learning_rate": 0.01, "lora_rank": 4, "batch_size": 4, "device": "cpu", **overrides}
    return build(method, model, settings, None, {"hidden_size": 32})


def run(
    settings: TrainingConfig, examples: list | None = None, **others: object
) -> tuple[TrainingResult, list[dict], list[str]]:
    """Train and return the result, the metrics of all steps, and the lines said."""
    steps: list[dict] = []
    lines: list[str] = []
    examples = (PAIRS if settings.loss.paired else SINGLES) if examples is None else examples
    loaded = load_base(settings.model, "cpu")
    result = train(examples, loaded, settings, lambda step, metrics: steps.append(metrics), say=lines.append, **others)
    return result, steps, lines


def weights(result: TrainingResult) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in adapter.trainable(result.model)]


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    settings = TrainingConfig(steps=20, warmup_ratio=0.1, learning_rate=1.0)
    rates = [learning_rate_at(step, settings) for step in range(20)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert all(before > after for before, after in zip(rates[2:], rates[3:]))
    assert rates[-1] == pytest.approx(1 / 18)
    assert learning_rate_at(0, TrainingConfig(steps=1, learning_rate=1.0)) == 1.0


def test_dpo_starts_at_log_2_and_learns(model) -> None:
    result, steps, lines = run(config(model))
    assert result.summary["first_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert steps[0]["rewards/margins"] == pytest.approx(0, abs=1e-4)
    assert steps[-1]["loss"] < 0.5 and steps[-1]["rewards/accuracies"] == 1.0
    assert any("untrained adapter gives a loss of 0.6931" in line for line in lines)


def test_the_same_seed_gives_the_same_adapter_and_another_gives_another(model) -> None:
    first, again, other = (weights(run(config(model, seed=seed))[0]) for seed in (5, 5, 6))
    assert all(torch.equal(*pair) for pair in zip(first, again))
    assert not all(torch.equal(*pair) for pair in zip(first, other))


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_the_token_budget_changes_nothing_but_memory(model, method) -> None:
    """KTO's reference point is that of the whole batch, whatever the parts it is computed in."""
    _, whole, _ = run(config(model, method))
    _, parts, _ = run(config(model, method, tokens_per_forward=16))
    for one, other in zip(whole, parts):
        for key in ("loss", "rewards/margins", "grad_norm", *(["kl"] if method == "kto" else [])):
            assert one[key] == pytest.approx(other[key], rel=2e-3, abs=2e-4), key


def test_kto_measures_its_reference_point_on_mismatched_responses(model) -> None:
    settings = config(model, "kto", batch_size=9)
    result, steps, _ = run(settings)
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-4)
    rows = gather(SINGLES, load_base(model, "cpu").tokenizer, settings, 512).train
    batch = collate([row.mismatched for row in rows], 0)
    policy, _ = response_logps(result.model, batch)
    reference, _ = response_logps(load_base(model, "cpu").model, batch)
    expected = max(0.0, (policy - reference).mean().item())
    scorer = Scorer(result.model, 0, torch.device("cpu"), 512)
    measured = scorer.policy_without_gradient([row.mismatched for row in rows]).mean() - reference.mean()
    assert max(0.0, measured.item()) == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert steps[-1]["kl"] >= 0


class Kept(dict):
    """A cache of reference log-probs in memory. asked: the keys of every call."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[bytes]] = []

    def get(self, keys: list[bytes]) -> dict[bytes, float]:  # type: ignore[override]
        self.asked.append(list(keys))
        return {key: self[key] for key in keys if key in self}

    def put(self, values: dict[bytes, float]) -> None:
        self.update(values)


@pytest.mark.parametrize("method", ["simpo", "orpo"])
def test_methods_without_a_reference_never_compute_one(model, method) -> None:
    kept = Kept()
    result, steps, _ = run(config(model, method), references=kept)
    assert "reference_seconds" not in result.summary and len(steps) == 3
    assert not kept.asked and not kept


def test_the_reference_is_the_base_and_is_computed_once(model) -> None:
    kept = Kept()
    settings = config(model, batch_size=6, steps=2, beta=0.3)
    _, steps, lines = run(settings, references=kept)
    base = load_base(model, "cpu")
    rows = gather(PAIRS, base.tokenizer, settings, 512).train
    chosen = response_logps(base.model, collate([row.chosen for row in rows], 0))[0]
    assert [kept[row_key(row.chosen)] for row in rows] == pytest.approx(chosen.tolist(), rel=1e-5)
    assert len(kept) == 12 and len(kept.asked) == 1
    assert any("12 responses scored by the base" in line for line in lines)
    assert steps[0]["logps/chosen"] == pytest.approx(chosen.mean().item(), rel=1e-4)
    expected = 0.3 * (steps[1]["logps/chosen"] - chosen.mean().item())
    assert steps[1]["rewards/chosen"] == pytest.approx(expected, rel=1e-3)


def test_a_second_run_computes_only_what_is_new(model) -> None:
    kept = Kept()
    settings = config(model, batch_size=6)
    first, first_steps, _ = run(settings, PAIRS[:4], references=kept)
    again, again_steps, lines = run(settings, PAIRS[:4], references=kept)
    assert any("0 responses scored" in line and "8 known from before" in line for line in lines)
    assert [step["loss"] for step in again_steps] == [step["loss"] for step in first_steps]
    _, _, lines = run(settings, references=kept)
    assert any("4 responses scored" in line and "8 known from before" in line for line in lines)
    assert len(kept) == 12


def test_the_adapter_folder_is_what_peft_reads(model, tmp_path) -> None:
    settings = config(model)
    result, _, _ = run(settings)
    folder = tmp_path / "run-1" / "adapter"
    adapter.write(result.model, folder, settings, result.summary, "card")
    rows = gather(PAIRS, load_base(model, "cpu").tokenizer, settings, 512).train
    batch = collate([row.chosen for row in rows], 0)
    loaded = peft.PeftModel.from_pretrained(load_base(model, "cpu").model, folder)
    assert torch.allclose(response_logps(loaded, batch)[0], response_logps(result.model, batch)[0], atol=1e-3)
    assert TrainingConfig.from_dict(json.loads((folder / "training_config.json").read_text())) == settings
    assert json.loads((folder / "metrics.json").read_text())["versions"]["torch"] == torch.__version__
    assert all("lora_" in name for name in load_file(folder / "adapter_model.safetensors"))


def test_an_adapter_is_written_whole_or_not_at_all(model, tmp_path, monkeypatch) -> None:
    settings = config(model, steps=1)
    result, _, _ = run(settings)
    folder = tmp_path / "adapter"
    monkeypatch.setattr(adapter, "versions", lambda: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError):
        adapter.write(result.model, folder, settings, result.summary, "card")
    assert list(tmp_path.iterdir()) == []


def test_held_out_prompts_are_measured_before_and_after(model) -> None:
    result, _, _ = run(config(model, held_out_share=0.34))
    assert result.summary["held_out_before/loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert 0 <= result.summary["held_out/accuracies"] <= 1
    assert result.summary["held_out/loss"] != result.summary["held_out_before/loss"]


def test_dropout_of_the_base_adds_no_noise(tmp_path) -> None:
    """GPT-2 has dropout of its own; in train mode the first loss would not be log 2."""
    folder = save_tiny_model(tmp_path / "gpt2", "gpt2")
    result, _, _ = run(config(str(folder), lora_dropout=0.5))
    assert result.summary["first_loss"] == pytest.approx(math.log(2), abs=1e-4)


def test_a_stop_between_steps_leaves_the_last_figures(model) -> None:
    seen = []
    result = train(
        PAIRS, load_base(model, "cpu"), config(model, steps=50), lambda step, _: seen.append(step),
        should_stop=lambda: len(seen) >= 2,
    )
    assert result.stopped and seen == [1, 2] and "loss" in result.summary


def test_a_first_loss_that_the_formula_does_not_allow_stops_the_run(model) -> None:
    kept = Kept()
    settings = config(model, batch_size=6)
    run(settings, references=kept)
    kept[next(iter(kept))] += 50.0
    with pytest.raises(TrainingError, match="must give 0.6931"):
        run(settings, references=kept)


def test_a_loss_that_is_no_number_stops_the_run_with_advice(model) -> None:
    with pytest.raises(TrainingError, match="Lower learning_rate"):
        run(config(model, learning_rate=1e30, max_grad_norm=1e30, steps=5))


def test_layers_that_do_not_exist_are_refused(model) -> None:
    with pytest.raises(ConfigError, match="lora_targets 'q_prog'"):
        run(config(model, lora_targets="q_prog"))
    result, _, _ = run(config(model, lora_targets="q_proj, v_proj", steps=1))
    assert len(adapter.trainable(result.model)) == 2 * 2 * 2


def test_a_model_that_reads_less_than_asked_sets_the_limit(tmp_path) -> None:
    folder = save_tiny_model(tmp_path / "short", max_position_embeddings=64)
    long = [PairedExample(9, 9, ask(9), "x" * 80, "no"), *PAIRS[:2]]
    result, _, _ = run(config(str(folder), max_length_tokens=500, steps=1), long)
    assert [exclusion.label_id for exclusion in result.left_out] == [9]


def test_kto_in_one_pass_and_in_many_gives_the_same(model) -> None:
    """z0 belongs to the whole batch, however it is cut; in one pass the mismatched responses share the prompts."""
    _, at_once, _ = run(config(model, "kto", batch_size=9, tokens_per_forward=100_000))
    _, cut, _ = run(config(model, "kto", batch_size=9, tokens_per_forward=64))
    assert [step["loss"] for step in at_once] == pytest.approx([step["loss"] for step in cut], abs=2e-5)
    assert [step["kl"] for step in at_once] == pytest.approx([step["kl"] for step in cut], abs=2e-3)
    assert at_once[-1]["kl"] > 0


def test_every_step_reports_what_a_dashboard_expects(model) -> None:
    _, steps, _ = run(config(model))
    wanted = {
        "loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen",
        "logps/rejected", "kl", "grad_norm", "learning_rate", "tokens_per_second", "peak_memory_bytes",
    }
    assert all(wanted <= set(step) for step in steps)
    assert 50e6 < steps[-1]["peak_memory_bytes"] < 50e9
