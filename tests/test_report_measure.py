"""Measuring a run: the figures are the run's own and those of plain transformers, for every kind of method."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tests.background_world import check_death_is_told, last_word
from tests.background_world import trained as trained_run
from tests.tiny_models import save_tiny_model
from tests.training_world import label_pairs, label_singles, tiny_config

from errors import ModelError, NotFoundError, TrainingError
from models.loading import load_base
from models.prompting import render
from report import job, measure
from report.measured import Measured, read
from training import job as training_job
from training import run
from training.background import Progress

trained = partial(trained_run, held_out_share=0.25)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def logps(model: torch.nn.Module, tokenizer, messages: list[dict[str, str]], text: str) -> tuple[float, int]:
    """The plain way: logits of one row, log-softmax, the response's tokens."""
    row = render(tokenizer, messages, text, 512)
    ids = torch.tensor([row.ids])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    own = logits.gather(1, ids[0, 1:, None])[row.prompt_length - 1 :, 0]
    return float(own.sum()), len(own)


@pytest.mark.parametrize("method", ["dpo", "ipo", "simpo", "orpo", "apo_zero", "kto"])
def test_what_is_measured_on_held_out_labels_is_what_the_run_said(store, project, model, method) -> None:
    label_pairs(store, project, 12)
    if method == "kto":
        label_singles(store, project, 5, 5)
    ended = trained(store, project, method, model)
    measured = measure.execute(store, ended.id, "cpu")
    said, held_out = ended.summary, measured.held_out
    assert held_out.loss_before.value == pytest.approx(said["held_out_before/loss"], abs=1e-4)
    assert held_out.loss_after.value == pytest.approx(said["held_out/loss"], abs=1e-4)
    assert held_out.accuracy_after.value == pytest.approx(said["held_out/accuracies"], abs=1e-6)
    before = 0.5 if held_out.accuracy_before is None else held_out.accuracy_before.value
    assert before == pytest.approx(said["held_out_before/accuracies"], abs=1e-6)
    assert (held_out.accuracy_before is None) == (method not in ("simpo", "orpo"))
    assert held_out.examples + measured.trained.examples == len(measured.examples)
    assert {example.prompt_id for example in measured.examples if example.held_out}.isdisjoint(
        example.prompt_id for example in measured.examples if not example.held_out
    )


@pytest.mark.parametrize("method", ["dpo", "simpo"])
def test_an_example_holds_what_transformers_and_peft_give(store, project, model, method) -> None:
    label_pairs(store, project, 6)
    ended = trained(store, project, method, model)
    measured = measure.execute(store, ended.id, "cpu")
    base, tuned = load_base(str(model), "cpu"), load_base(str(model), "cpu")
    adapted = PeftModel.from_pretrained(tuned.model, str(store.folder / ended.adapter)).eval()
    rows = {row["label_id"]: row for row in store.labels.judged(project.id, ended.id)}
    beta = ended.config["loss"]["beta"]
    assert len(measured.examples) == 6
    for example in measured.examples:
        row = rows[example.label_id]
        assert (example.item_id, example.prompt_id, example.desirable) == (row["item_id"], row["prompt_id"], None)
        texts = [text["text"] for text in sorted(row["responses"], key=lambda each: not each["chosen"])]
        for side, text in enumerate(texts):
            reference, length = logps(base.model, base.tokenizer, row["messages"], text)
            policy, _ = logps(adapted, base.tokenizer, row["messages"], text)
            assert example.base[side] == pytest.approx(reference, abs=2e-4)
            assert example.policy[side] == pytest.approx(policy, abs=2e-4) and example.tokens[side] == length
            after = beta * (policy / length if method == "simpo" else policy - reference)
            before = beta * reference / length if method == "simpo" else 0.0
            assert example.rewards_after[side] == pytest.approx(after, abs=2e-4)
            assert example.rewards_before[side] == pytest.approx(before, abs=2e-4)
        assert example.margin_after == pytest.approx(example.rewards_after[0] - example.rewards_after[1], abs=1e-5)


def test_single_answers_of_kto_are_measured_against_the_reference_point(store, project, model) -> None:
    label_singles(store, project, 6, 6)
    ended = trained(store, project, "kto", model, held_out_share=0.0)
    measured = measure.execute(store, ended.id, "cpu")
    assert measured.held_out is None and measured.trained.examples == 12 and not measured.paired
    assert measured.trained.likelier_after is None and measured.trained.by_model.count == 12
    beta = ended.config["loss"]["beta"]
    signs = {True: 1.0, False: -1.0}
    anchors = {
        round(example.rewards_after[0] - signs[example.desirable] * example.margin_after, 5) for example in measured.examples
    }
    assert len(anchors) == 1 and anchors.pop() >= 0
    for example in measured.examples:
        assert example.rewards_after[0] == pytest.approx(beta * (example.policy[0] - example.base[0]), abs=1e-5)
        assert example.margin_before == 0.0
    first = measured.contradicted[0]
    assert first.desirable is not None and len(first.texts) == 1


def test_the_same_prompts_are_answered_before_and_after_and_a_stronger_run_is_further_away(store, project, model) -> None:
    label_pairs(store, project, 30)
    weak = measure.execute(store, trained(store, project, "dpo", model, learning_rate=1e-5).id, "cpu")
    strong = measure.execute(store, trained(store, project, "dpo", model, learning_rate=0.03).id, "cpu")
    assert len(weak.samples) == 24 and [sample.held_out for sample in weak.samples] == [True] * 8 + [False] * 16
    assert [sample.before for sample in weak.samples] == [sample.before for sample in strong.samples]
    assert any(sample.before != sample.after for sample in strong.samples)
    assert abs(weak.kl.value) < 0.05 < strong.kl.value and strong.kl_per_token < strong.kl.value
    lengths = [sample.tokens[1] for sample in strong.samples]
    assert strong.lengths[1].value == pytest.approx(sum(lengths) / len(lengths))


def test_a_report_comes_back_from_its_file_and_again_the_same(store, project, model) -> None:
    label_pairs(store, project, 8)
    ended = trained(store, project, "dpo", model)
    assert read(store.runs.folder(ended.id)) is None
    measured = measure.execute(store, ended.id, "cpu")
    kept = read(store.runs.folder(ended.id))
    assert kept == measured and kept.paired and isinstance(kept.examples[0].base, tuple)
    again = measure.execute(store, ended.id, "cpu")
    assert (again.samples, again.kl, again.contradicted) == (measured.samples, measured.kl, measured.contradicted)
    (store.runs.folder(ended.id) / "report.json").write_text('{"version": 0}')
    assert read(store.runs.folder(ended.id)) is None
    with pytest.raises(ValueError, match="not a report"):
        Measured.from_json('{"version": 1}')


def test_what_is_left_out_is_said(store, project, model) -> None:
    label_pairs(store, project, 6)
    ids = [store.responses.add(store.prompts.add(project.id, [{"role": "user", "content": "Long?"}])[0], text)[0] for text in ("yes " * 200, "no")]
    item_id, _ = store.items.add(project.id, store.responses.get(ids[0]).prompt_id, ids)
    store.labels.add(item_id, "ann", "chosen", client_id="l", shown_response_ids=ids, chosen_response_id=ids[0])
    ended = trained(store, project, "dpo", model, max_length_tokens=64)
    measured = measure.execute(store, ended.id, "cpu")
    assert len(measured.examples) == 6 and any("1 longer than" in note or "left out" in note for note in measured.notes)


@pytest.mark.parametrize("how", [lambda store: os.kill(os.getpid(), signal.SIGTERM), lambda store: job.stop(store, 1)])
def test_a_stop_keeps_the_report_from_before(store, project, model, how) -> None:
    label_pairs(store, project, 6)
    ended = trained(store, project, "dpo", model)
    measured = measure.execute(store, ended.id, "cpu")

    def interrupt(line: str) -> None:
        if line.startswith("Answering"):
            how(store)

    with pytest.raises(TrainingError, match="stopped; the earlier report stays"):
        measure.execute(store, ended.id, "cpu", interrupt)
    assert read(store.runs.folder(1)) == measured and not job.MEASURING.stop_file(store, 1).exists()
    assert job.status(store, ended) == Progress("The measuring of run 1 was stopped; the earlier report stays.")


def test_what_cannot_be_measured_is_refused_with_words(store, project, model) -> None:
    with pytest.raises(NotFoundError, match="no run number 7"):
        measure.execute(store, 7)
    label_pairs(store, project, 4)
    queued = training_job.create(store, project, tiny_config(store, project, "dpo", model))
    with pytest.raises(TrainingError, match="no adapter to measure: it is queued"):
        measure.execute(store, queued.id)
    ended = run.execute(store, queued.id)
    assert job.measurable(store, project.id) == [ended] and job.measurable(store, None) == []
    lock = job.MEASURING.lock(store, ended.id)
    assert lock.take()
    with pytest.raises(TrainingError, match="at work already"):
        measure.execute(store, ended.id)
    lock.release()
    training_job.create(store, project, tiny_config(store, project, "dpo", model))
    with pytest.raises(TrainingError, match="still training"):
        job.start(store, ended.id)
    store.runs.end(2, "cancelled")
    save_tiny_model(model, seed=5)
    with pytest.raises(ModelError, match="trained on other weights"):
        measure.execute(store, ended.id, "cpu")
    save_tiny_model(model, seed=0)


def test_a_process_of_its_own_measures_and_any_page_sees_how_far_it_is(store, project, tmp_path) -> None:
    label_pairs(store, project, 4)
    ended, freed = trained(store, project, "dpo", save_tiny_model(tmp_path / "model")), []
    said = last_word(job.MEASURING, store, ended.id, lambda: job.start(store, ended.id, "cpu", lambda: freed.append(1)))
    assert said.startswith("Run 1 is measured: 4 examples and 4 prompts in") and freed == [1]
    assert read(store.runs.folder(ended.id)).trained.examples == 3


def test_a_measuring_that_died_says_so(store, project, monkeypatch) -> None:
    check_death_is_told(job.MEASURING, store, project, "Scoring 9,000 examples …", monkeypatch)
