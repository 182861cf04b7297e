"""What tests of training share: a tiny model in a folder, and a project with labels by a plain rule."""

from __future__ import annotations

import json
from pathlib import Path

from storage import Project, Store
from training.checkpoint import NAME
from training.config import TrainingConfig, build
from training.dataset import summarise

TINY = {"hidden_size": 32}


def add_label(store: Store, project: Project, question: str, texts: tuple[str, ...], verdict: str) -> None:
    """Store a prompt with one or two responses and judge them; of a pair the first is preferred."""
    prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": question}])
    ids = [store.responses.add(prompt_id, text)[0] for text in texts]
    item_id, _ = store.items.add(project.id, prompt_id, ids)
    store.labels.add(
        item_id, "ann", verdict, client_id=f"{project.id}-{item_id}", shown_response_ids=ids,
        chosen_response_id=ids[0] if verdict == "chosen" else None,
    )


def label_pairs(store: Store, project: Project, count: int) -> None:
    """Label `count` pairs of different lengths: polite before rude."""
    for number in range(count):
        texts = (f"Yes, please. {'So ' * (number % 4)}{number}", f"No {number}.")
        add_label(store, project, f"Question {number}?", texts, "chosen")


def label_singles(store: Store, project: Project, good: int, bad: int) -> None:
    """Mark single responses good and bad."""
    for number in range(good + bad):
        verdict = "good" if number < good else "bad"
        add_label(store, project, f"Single {number}?", (f"{verdict} answer {number}",), verdict)


def tiny_config(store: Store, project: Project, method: str, model: Path, **overrides: object) -> TrainingConfig:
    """Return a config of few, strong steps on the CPU."""
    settings = {"steps": 4, "learning_rate": 0.01, "lora_rank": 4, "device": "cpu", **overrides}
    return build(method, str(model), settings, summarise(store, project.id), TINY)


def leave_checkpoint(folder: Path, step: int) -> None:
    """Write into a run's folder a checkpoint that says its step and holds nothing else."""
    about = json.dumps({"step": step})
    header = json.dumps({"__metadata__": {"checkpoint": about}}).encode()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).write_bytes(len(header).to_bytes(8, "little") + header)
