"""What tests against TRL share: its trainers on a tiny model, and the comparison of a value with its gradients.

The fixtures are imported by name where they are used. Does not know our losses' formulas.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import datasets
import pytest
import torch
import trl
from tests.tiny_models import tiny_model, tiny_tokenizer
from torch import Tensor

from training.methods import APODownConfig, APOZeroConfig, DPOConfig, HingeConfig, IPOConfig, RobustConfig

# Our method, its config of β and ε, and TRL's name for the same formula.
SAME_IN_DPO_TRAINER = [
    ("dpo", lambda beta, _: DPOConfig(beta), "sigmoid"),
    ("robust", RobustConfig, "robust"),
    ("hinge", lambda beta, _: HingeConfig(beta), "hinge"),
    ("ipo", lambda beta, _: IPOConfig(beta, "mean"), "ipo"),
    ("apo_zero", lambda beta, _: APOZeroConfig(beta), "apo_zero"),
    ("apo_down", lambda beta, _: APODownConfig(beta), "apo_down"),
]
WORDS = ("yes", "no, thanks", "a longer answer than that", "so", "perhaps", "never again")


def paired_rows(count: int = 3) -> Any:
    """Return a TRL dataset of pairs with responses of different lengths."""
    return datasets.Dataset.from_list([
        {
            "prompt": f"Question {number}? ",
            "chosen": WORDS[number % len(WORDS)],
            "rejected": WORDS[(number + 2) % len(WORDS)] + "!",
        }
        for number in range(count)
    ])


def unpaired_rows() -> Any:
    """Return a TRL dataset of judged single responses."""
    return datasets.Dataset.from_list([
        {"prompt": f"Question {number}? ", "completion": word, "label": number % 3 != 0}
        for number, word in enumerate(WORDS)
    ])


def arguments(kind: type, folder: str, **changes: Any) -> Any:
    return kind(
        output_dir=folder, bf16=False, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
        gradient_checkpointing=False, **changes,
    )


@pytest.fixture(scope="module")
def quiet_and_tidy() -> Iterator[None]:
    """accelerate keeps one state for the process; later tests shall make their own."""
    from accelerate.state import AcceleratorState, GradientState

    datasets.disable_progress_bars()
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="module")
def dpo_trainer(tmp_path_factory: pytest.TempPathFactory, quiet_and_tidy: None) -> Any:
    """A DPOTrainer that takes reference log-probs from the batch."""
    settings = arguments(
        trl.DPOConfig, str(tmp_path_factory.mktemp("dpo")), precompute_ref_log_probs=True, per_device_train_batch_size=3
    )
    return trl.DPOTrainer(
        tiny_model(), args=settings, train_dataset=paired_rows(), processing_class=tiny_tokenizer()
    )


@pytest.fixture(scope="module")
def kto_trainer(tmp_path_factory: pytest.TempPathFactory, quiet_and_tidy: None) -> Any:
    """A KTOTrainer that takes reference log-probs from the batch."""
    settings = arguments(
        trl.KTOConfig, str(tmp_path_factory.mktemp("kto")), precompute_ref_log_probs=True,
        per_device_train_batch_size=len(WORDS), train_sampling_strategy="sequential",
    )
    return trl.KTOTrainer(
        tiny_model(), args=settings, train_dataset=unpaired_rows(), processing_class=tiny_tokenizer()
    )


@pytest.fixture(scope="module")
def cpo_trainer(tmp_path_factory: pytest.TempPathFactory, quiet_and_tidy: None) -> Any:
    """A CPOTrainer, in which TRL keeps SimPO."""
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    settings = arguments(
        CPOConfig, str(tmp_path_factory.mktemp("cpo")), loss_type="simpo", cpo_alpha=0.0, per_device_train_batch_size=3
    )
    return CPOTrainer(tiny_model(), args=settings, train_dataset=paired_rows(), processing_class=tiny_tokenizer())


@pytest.fixture(scope="module")
def orpo_trainer(tmp_path_factory: pytest.TempPathFactory, quiet_and_tidy: None) -> Any:
    from trl.experimental.orpo import ORPOConfig as Config
    from trl.experimental.orpo import ORPOTrainer

    settings = arguments(Config, str(tmp_path_factory.mktemp("orpo")), per_device_train_batch_size=3)
    return ORPOTrainer(tiny_model(), args=settings, train_dataset=paired_rows(), processing_class=tiny_tokenizer())


def assert_same(ours: Tensor, theirs: Tensor, leaves: tuple[Tensor, ...], **close: float) -> None:
    """Compare two scalars and their gradients. Both must be finite."""
    mine = torch.autograd.grad(ours, leaves, retain_graph=True, allow_unused=True)
    their = torch.autograd.grad(theirs, leaves, retain_graph=True, allow_unused=True)
    assert torch.isfinite(ours) and torch.isfinite(theirs)
    torch.testing.assert_close(ours, theirs.to(ours.dtype), **close)
    for one, other in zip(mine, their, strict=True):
        assert torch.isfinite(one).all() and torch.isfinite(other).all()
        torch.testing.assert_close(one, other.to(one.dtype), **close)
