"""A run that goes on from another run's adapter: begins with its weights, keeps its shape, against the base as reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from errors import ConfigError, ModelError, NotFoundError
from models.loading import load_base
from storage import Project, Store
from tests.tiny_models import save_tiny_model
from tests.training_world import add_label, label_pairs, tiny_config
from training import adapter, job, run
from training.config import TrainingConfig, build
from training.dataset import examples_for, learned_before
from training.material import gather


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


def trained(store: Store, project: Project, model: Path, **settings: object):  # noqa: ANN201
    config = tiny_config(store, project, "dpo", model, **settings)
    return run.execute(store, job.create(store, project, config).id, "cpu")


def test_a_run_goes_on_from_where_another_ended(store: Store, project: Project, model: Path) -> None:
    label_pairs(store, project, 8)
    first = trained(store, project, model, lora_rank=6, steps=6)
    assert first.state == "finished", first.message
    second = trained(store, project, model, start_run=first.id, steps=1, learning_rate=1e-12)
    assert second.state == "finished", second.message
    assert second.config["lora_rank"] == 6
    weights = [safetensors.torch.load_file(store.runs.adapter_folder(each.id) / "adapter_model.safetensors") for each in (first, second)]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=0, atol=1e-9)
    # Its rewards begin where the first run's ended: the reference is the base, not the run before.
    assert second.summary["rewards/margins"] > 0.5 * first.summary["rewards/margins"] > 0
    log = (store.runs.folder(second.id) / "log.txt").read_text()
    assert f"of run {first.id}'s adapter" in log


def test_training_on_top_lowers_the_loss_further(store: Store, project: Project, model: Path) -> None:
    label_pairs(store, project, 8)
    first = trained(store, project, model, steps=4)
    second = trained(store, project, model, start_run=first.id, steps=4)
    assert second.summary["first_loss"] < first.summary["first_loss"] - 0.01
    assert second.summary["loss"] < first.summary["loss"]


def test_a_run_that_cannot_be_gone_on_from_is_refused(store: Store, project: Project, model: Path, tmp_path: Path) -> None:
    label_pairs(store, project, 4)
    config = tiny_config(store, project, "dpo", model)
    with pytest.raises(NotFoundError):
        job.create(store, project, replace(config, start_run=99))
    failed = store.runs.create(project.id, "dpo", str(model), config.to_dict(), [])
    store.runs.end(failed.id, "failed", "no")
    with pytest.raises(ConfigError, match="no adapter to go on from"):
        job.create(store, project, replace(config, start_run=failed.id))
    other = store.runs.create(project.id, "dpo", "demo", config.to_dict(), [])
    store.runs.end(other.id, "finished", adapter="runs/run-2/adapter")
    with pytest.raises(ConfigError, match="trained from 'demo'"):
        job.create(store, project, replace(config, start_run=other.id))


def test_an_adapter_of_another_shape_is_refused(store: Store, project: Project, model: Path) -> None:
    label_pairs(store, project, 4)
    first = trained(store, project, model, lora_targets="q_proj", steps=1)
    folder = store.runs.adapter_folder(first.id)
    config = tiny_config(store, project, "dpo", model)
    with pytest.raises(ModelError, match="other layers"):
        adapter.attach(load_base(str(model), "cpu").model, config, folder)
    (folder / "adapter_model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match="cannot be gone on from"):
        adapter.attach(load_base(str(model), "cpu").model, config, folder)


def test_the_learning_rate_on_top_of_a_run_is_a_quarter_of_the_usual_one() -> None:
    usual, on_top = (build("dpo", "demo", given, None, {"hidden_size": 256}) for given in ({}, {"start_run": 1}))
    assert on_top.learning_rate == pytest.approx(usual.learning_rate / 4)


def test_what_the_runs_before_were_given_is_not_held_out(store: Store, project: Project, model: Path) -> None:
    label_pairs(store, project, 10)
    first = trained(store, project, model, steps=1)
    second = trained(store, project, model, steps=1, start_run=first.id)
    known = learned_before(store, project.id, second.id)
    assert len(known) == 10 and learned_before(store, project.id, 0) == frozenset()
    copy = store.projects.ensure("copy")
    label_pairs(store, copy, 3)
    assert len(learned_before(store, copy.id, second.id)) == 3  # the same conversations, by other numbers
    for number in range(10):
        add_label(store, project, f"New question {number}?", (f"Yes {number}.", f"No {number}."), "chosen")
    third = trained(store, project, model, steps=1, start_run=second.id, held_out_share=0.4)
    examples = examples_for("dpo", list(store.labels.judged(project.id, third.id)))
    config = TrainingConfig.from_dict(third.config)
    tokenizer = load_base(str(model), "cpu").tokenizer
    held = gather(examples, tokenizer, config, 512, known).held_out
    assert len(held) == 4 and not {row.example.prompt_id for row in held} & known
    held_labels = {row.example.label_id for row in held}
    assert len(store.prompts.untrained(project.id, [third.id])) == 4 == len(held_labels)
    assert "4 held out" in (store.runs.folder(third.id) / "log.txt").read_text()
    naive = gather(examples, tokenizer, config, 512).held_out
    assert {row.example.prompt_id for row in naive} & known  # without knowing, it would have measured on what it knew
