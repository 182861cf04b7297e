"""TRL's own trainers load what is exported, and train on it, with no mapping in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import trl
from tests.tiny_models import save_tiny_model
from tests.trl_world import arguments, quiet_and_tidy

from storage import Project, Store
from transfer.exporting.export import export
from transfer.importing import import_file

__all__ = ["quiet_and_tidy"]


@pytest.fixture()
def labelled(store: Store, tmp_path: Path) -> Project:
    """A project of eight pairs, one with a system message and several turns, and eight judged answers."""
    before = [
        {"role": "system", "content": "You are brief."}, {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
    ]
    rows: list[dict[str, Any]] = [
        {
            "prompt": [*(before if number == 0 else []), {"role": "user", "content": f"Question {number}?"}],
            "chosen": [{"role": "assistant", "content": f"Yes, {number}."}],
            "rejected": [{"role": "assistant", "content": f"=No, {number}, and \"so\" on"}],
        }
        for number in range(8)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    singles = [{"prompt": f"Judge {number}?", "completion": f"So {number}.", "label": number % 2 == 0} for number in range(8)]
    (tmp_path / "singles.jsonl").write_text("".join(json.dumps(row) + "\n" for row in singles))
    for name in ("pairs", "singles"):
        import_file(store, "both", tmp_path / f"{name}.jsonl")
    return store.projects.get("both")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("tiny") / "model"))


@pytest.mark.parametrize(("suffix", "reader"), [("jsonl", "json"), ("parquet", "parquet")])
def test_pairs_train_with_dpo(
    store: Store, labelled: Project, tmp_path: Path, suffix: str, reader: str, model: str, quiet_and_tidy: None
) -> None:
    path = tmp_path / f"out.{suffix}"
    export(store, labelled, "trl-preference", path)
    rows = datasets.load_dataset(reader, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    settings = arguments(trl.DPOConfig, str(tmp_path / "dpo"), max_steps=1, per_device_train_batch_size=2)
    trainer = trl.DPOTrainer(model, args=settings, train_dataset=rows)
    assert trainer.train().training_loss == pytest.approx(0.6931, abs=0.01)


def test_judged_answers_train_with_kto_from_the_folder_of_a_data_set(
    store: Store, labelled: Project, tmp_path: Path, model: str, quiet_and_tidy: None
) -> None:
    export(store, labelled, "dataset", tmp_path / "set")
    rows = datasets.load_dataset(str(tmp_path / "set"), "unpaired", split="train", cache_dir=str(tmp_path / "cache"))
    assert set(rows.column_names) == {"prompt", "completion", "label"} and len(rows) == 24
    settings = arguments(trl.KTOConfig, str(tmp_path / "kto"), max_steps=1, per_device_train_batch_size=4)
    trainer = trl.KTOTrainer(model, args=settings, train_dataset=rows)
    assert trainer.train().training_loss == pytest.approx(0.5, abs=0.05)
