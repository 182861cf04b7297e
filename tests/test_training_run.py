"""One training process, run here: every method end to end, and every way a run can end."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from tests.tiny_models import save_tiny_model
from tests.training_world import add_label, label_pairs, label_singles, tiny_config

from errors import TrainingError
from models.loading import load_base
from models.logps import collate, response_logps
from storage import Project, Run, Store
from training import adapter, checkpoint, job, run
from training.batching import BatchOrder
from training.dataset import examples_for
from training.material import gather
from training.methods import METHODS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def executed(store: Store, project: Project, method: str, model: Path, **overrides: object) -> Run:
    created = job.create(store, project, tiny_config(store, project, method, model, **overrides))
    return run.execute(store, created.id)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def log_odds(mean: float) -> float:
    return mean - math.log(1 - math.exp(mean))


# Each formula once more, in plain arithmetic: w, l are log-probs of chosen and rejected, W, L the reference's,
# m and n their lengths, b is beta (and the rest of the settings are the defaults).
FORMULAS = {
    "dpo": lambda w, l, W, L, m, n, b: -math.log(sigmoid(b * (w - W - l + L))),
    "ipo": lambda w, l, W, L, m, n, b: (w - W - l + L - 1 / (2 * b)) ** 2,
    "simpo": lambda w, l, W, L, m, n, b: -math.log(sigmoid(b * (w / m - l / n) - 1.0)),
    "robust": lambda w, l, W, L, m, n, b: (
        -0.9 * math.log(sigmoid(b * (w - W - l + L))) + 0.1 * math.log(sigmoid(-b * (w - W - l + L)))
    ) / 0.8,
    "hinge": lambda w, l, W, L, m, n, b: max(0.0, 1 - b * (w - W - l + L)),
    "orpo": lambda w, l, W, L, m, n, b: -w / m - b * math.log(sigmoid(log_odds(w / m) - log_odds(l / n))),
    "apo_zero": lambda w, l, W, L, m, n, b: 1 - sigmoid(b * (w - W)) + sigmoid(b * (l - L)),
    "apo_down": lambda w, l, W, L, m, n, b: sigmoid(b * (w - W)) + 1 - sigmoid(b * (w - W - l + L)),
}


def test_every_paired_method_has_a_formula_here() -> None:
    assert set(FORMULAS) == {name for name, method in METHODS.items() if method.paired}


@pytest.mark.parametrize("method", FORMULAS)
def test_every_name_in_the_menu_trains_its_own_loss(store, project, model, method) -> None:
    """One pair a step, so that each logged loss follows from the logged log-probs and the base's own."""
    label_pairs(store, project, 3)
    ended = executed(store, project, method, model, batch_size=1, steps=5, learning_rate=0.003)
    assert ended.state == "finished", ended.message
    settings = tiny_config(store, project, method, model, batch_size=1)
    base = load_base(str(model), "cpu")
    examples = examples_for(method, store.labels.judged(project.id))
    rows = gather(examples, base.tokenizer, settings, 512).train
    order = BatchOrder([True] * 3, 1, settings.seed)
    metrics = store.runs.metrics(ended.id)
    assert len(metrics) == 5 and len({round(row.values["loss"], 6) for row in metrics}) > 1
    for step, row in enumerate(metrics):
        pair = rows[order.indices(step)[0]]
        with torch.no_grad():
            reference, lengths = response_logps(base.model, collate([pair.chosen, pair.rejected], 0))
        policy = row.values["logps/chosen"], row.values["logps/rejected"]
        expected = FORMULAS[method](*policy, *reference.tolist(), *lengths.tolist(), settings.loss.beta)
        assert row.values["loss"] == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert ended.summary["first_loss"] == metrics[0].values["loss"]


@pytest.mark.parametrize("reference_point", ["kl", "zero"])
def test_kto_trains_its_own_loss(store, project, model, reference_point) -> None:
    label_singles(store, project, 4, 2)
    ended = executed(store, project, "kto", model, batch_size=1, steps=6, beta=0.3, reference_point=reference_point)
    assert ended.state == "finished", ended.message
    for row in store.runs.metrics(ended.id):
        values, beta = row.values, 0.3
        z0 = beta * values.get("kl", 0.0) if reference_point == "kl" else 0.0
        if "rewards/chosen" in values:
            expected = 1 - sigmoid(values["rewards/chosen"] - z0)
        else:  # two good answers to each bad one, so a bad one weighs twice
            expected = 2 * (1 - sigmoid(z0 - values["rewards/rejected"]))
        assert values["loss"] == pytest.approx(expected, rel=1e-4)


def test_a_finished_run_leaves_adapter_message_metrics_and_log(store, project, model) -> None:
    label_pairs(store, project, 6)
    add_label(store, project, "Tie?", ("one", "two"), "tie")
    add_label(store, project, "Empty?", ("yes", " "), "chosen")
    said: list[str] = []
    created = job.create(store, project, tiny_config(store, project, "dpo", model))
    ended = run.execute(store, created.id, progress=said.append)
    assert ended.state == "finished" and ended.adapter == f"runs/run-{ended.id}/adapter"
    assert "Finished 4 steps" in ended.message and "1 left out (1 empty)" in ended.message
    assert (store.folder / ended.adapter / "adapter_model.safetensors").is_file()
    assert ended.summary["first_loss"] == pytest.approx(math.log(2), abs=1e-5)
    figures = {"loss", "rewards/margins", "rewards/accuracies", "seconds", "grad_norm", "learning_rate"}
    assert figures <= set(ended.summary)
    log = job.log_tail(store, ended.id)
    assert "7 pairs, 1 tie left out" in log and "labels 8" in log
    assert [line.split(" ", 1)[1] for line in log.split("\n")] == said
    card = (store.folder / ended.adapter / "README.md").read_text()
    assert ended.message in card
    assert json.loads((store.folder / ended.adapter / "training_config.json").read_text()) == ended.config


def test_a_run_trains_on_the_labels_it_was_created_with(store, project, model) -> None:
    label_pairs(store, project, 3)
    created = job.create(store, project, tiny_config(store, project, "dpo", model))
    label_pairs(store, project, 9)
    run.execute(store, created.id)
    assert "3 pairs to learn from" in job.log_tail(store, created.id)


def test_a_cancel_in_the_store_stops_the_run_which_can_be_resumed(store, project, model) -> None:
    label_pairs(store, project, 4)
    created = job.create(store, project, tiny_config(store, project, "dpo", model, steps=500))

    def cancel_at_two(line: str) -> None:
        if line.startswith("step 2/"):
            job.cancel(store, created.id)

    ended = run.execute(store, created.id, progress=cancel_at_two)
    assert ended.state == "cancelled" and ended.message.startswith("Cancelled after ")
    assert ended.step < 20 and ended.adapter is None
    assert ended.message == f"Cancelled after {ended.step} of 500 steps; it can be resumed."
    assert checkpoint.step_of(store.runs.folder(ended.id) / checkpoint.NAME) == ended.step
    assert not (store.runs.folder(ended.id) / "adapter").exists()


def test_sigterm_is_a_cancel(store, project, model) -> None:
    label_pairs(store, project, 4)
    created = job.create(store, project, tiny_config(store, project, "dpo", model, steps=500))
    before = signal.getsignal(signal.SIGTERM)

    def terminate(line: str) -> None:
        if line.startswith("step 2/"):
            os.kill(os.getpid(), signal.SIGTERM)

    assert run.execute(store, created.id, progress=terminate).state == "cancelled"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "disk of .* is full"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "Lower tokens_per_forward"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "Lower tokens_per_forward"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
        (TrainingError("A sentence."), "A sentence."),
    ],
)
def test_whatever_goes_wrong_becomes_a_sentence(store, project, model, monkeypatch, error, words) -> None:
    def broken(*_: object) -> None:
        raise error

    label_pairs(store, project, 3)
    monkeypatch.setattr(adapter, "write", broken)
    ended = executed(store, project, "dpo", model, steps=1)
    assert ended.state == "failed" and ended.adapter is None
    assert re.search(words, ended.message)
    assert ("Traceback" in job.log_tail(store, ended.id)) == (not isinstance(error, TrainingError))


@pytest.mark.parametrize(("times", "words"), [(1, "Cancelled after "), (2, "Cancelled at once")])
def test_ctrl_c_cancels_after_the_step_and_pressed_again_at_once(store, project, model, times, words) -> None:
    label_pairs(store, project, 4)
    created = job.create(store, project, tiny_config(store, project, "dpo", model, steps=500))

    def interrupt(line: str) -> None:
        if line.startswith("step 2/"):
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)

    ended = run.execute(store, created.id, progress=interrupt)
    assert ended.state == "cancelled" and ended.message.startswith(words)


def test_a_model_that_cannot_be_loaded_fails_the_run_with_its_reason(store, project, tmp_path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"model_type": "llama"}')
    label_pairs(store, project, 3)
    ended = executed(store, project, "dpo", broken)
    assert ended.state == "failed" and str(broken) in ended.message and "Traceback" not in ended.message


def test_a_run_is_executed_once_and_by_one_process(store, project, model) -> None:
    label_pairs(store, project, 3)
    ended = executed(store, project, "dpo", model, steps=1)
    with pytest.raises(TrainingError, match="finished already"):
        run.execute(store, ended.id)
    created = job.create(store, project, tiny_config(store, project, "dpo", model, steps=1))
    lock = run.ProcessLock(store.runs.folder(created.id) / run.LOCK_NAME)
    assert lock.take()
    with pytest.raises(TrainingError, match="another process"):
        run.execute(store, created.id)
    lock.release()


def test_a_run_in_a_thread_trains_too(store, project, model) -> None:
    """Signals belong to the main thread; elsewhere the run must do without them."""
    label_pairs(store, project, 3)
    created = job.create(store, project, tiny_config(store, project, "dpo", model, steps=1))
    thread = threading.Thread(target=run.execute, args=(Store(store.folder), created.id))
    thread.start()
    thread.join()
    assert store.runs.get(created.id).state == "finished"


def test_the_training_process_says_what_is_wrong_in_one_line(store, capsys) -> None:
    assert run.main(["--data", str(store.folder), "--run", "7"]) == 2
    assert capsys.readouterr().out.startswith("There is no run number 7.")


def test_training_imports_where_gradio_is_not_installed() -> None:
    modules = [path.stem for path in Path(run.__file__).parent.glob("*.py") if path.stem not in ("tab", "__init__")]
    code = (
        "import importlib, sys\n"
        "for name in ('gradio', 'fastapi', 'uvicorn', 'gradio_client'): sys.modules[name] = None\n"
        f"for name in {modules!r}: importlib.import_module('training.' + name)\nprint('ok')"
    )
    root = Path(run.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "ok", done.stderr
