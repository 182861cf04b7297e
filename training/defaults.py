"""What a run gets when the user leaves a setting alone, with the reason for it. The one place to tune.

Two regimes: small models (the demo), whose values were measured on it, and the rest, whose learning rate falls
with width. What depends on the device says so. Does not know how a config is checked or shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.precision import likely_device
from training.methods import METHODS, KTOConfig, class_weights

if TYPE_CHECKING:
    from training.dataset import LabelSummary

# Measured on the demo model, which is this wide, with a scripted annotator (`tests/test_preference_shift.py`). A tie of
# β = 1 lets a pair go once it leads by a few nats, which is all that a manner needs; at 0.3 the same rate pushes on
# until broken words take the place of the rejected openings (well formed 0.93 → 0.74). DPO and KTO were measured on
# three seeds, IPO and SimPO on one; the others follow them.
SMALL_WIDTH = 256
SMALL_MODEL: dict[str, dict[str, float]] = {
    "dpo": {"learning_rate": 2e-3, "beta": 1.0},
    "kto": {"learning_rate": 1e-3, "beta": 1.0},
    "ipo": {"learning_rate": 1e-3, "beta": 0.1},
    "simpo": {"learning_rate": 1e-3},
    "robust": {"learning_rate": 2e-3, "beta": 1.0},
    "hinge": {"learning_rate": 2e-3, "beta": 1.0},
    "orpo": {"learning_rate": 1e-3, "beta": 1.0},
    "apo_zero": {"learning_rate": 1e-3, "beta": 1.0},
    "apo_down": {"learning_rate": 1e-3, "beta": 1.0},
}
# Up to this width a model counts as small: its β and steps are the demo's.
SMALL_WIDTH_LIMIT = 512
WIDTH_POWER = 1.2
# A run on top of another has little left to learn: at the full rate the demo's text broke (well formed 0.94 → 0.77), at
# a quarter of it manners still improved (polite 0.92 → 0.97, well formed 0.94), 228 held-out questions, one seed.
ON_TOP_SHARE = 0.25
UNKNOWN_WIDTH = 2048

MOST_STEPS = 10_000_000
SMALL_STEPS, LARGE_STEPS = 60, 30
PASSES, PASSES_FROM_2000 = 3, 1
BATCH_SIZE = {True: 8, False: 16}
# Fewer than this are all needed to train on; a tenth of them would be a single one, which measures nothing.
HELD_OUT_SHARE, HELD_OUT_FROM = 0.1, 20
EVALUATIONS = 4
# What a CPU's cache holds, or what keeps a GPU busy.
TOKENS_PER_FORWARD = {"cpu": 2048, "cuda": 16384}
OTHER_TOKENS_PER_FORWARD = 4096


@dataclass(frozen=True)
class Suggestion:
    """A value for a setting, and the reason in a few words (empty for a plain default)."""

    value: Any
    reason: str

    @property
    def told(self) -> str:
        """Return value and reason in one line."""
        value = "automatic" if self.value is None else str(self.value)
        if isinstance(self.value, float):
            value = f"{self.value:g}"
        return f"{value} ({self.reason})" if self.reason else value


def suggest(
    method: str,
    architecture: Mapping[str, Any],
    summary: LabelSummary | None,
    chosen: Mapping[str, Any],
    device: str = "auto",
) -> dict[str, Suggestion]:
    """Return the settings that depend on model, data and device, each with its reason.

    architecture: the model's config.json, {} when unknown. chosen: what the user set, which others follow.
    device: where the program was told to train, for when the user does not say.
    """
    count = summary.examples(METHODS[method].paired) if summary else 0
    small = (_width(architecture) or UNKNOWN_WIDTH) <= SMALL_WIDTH_LIMIT
    suggestions = {"learning_rate": _learning_rate(method, _width(architecture), bool(chosen.get("start_run")))}
    if small and "beta" in SMALL_MODEL[method]:
        suggestions["beta"] = Suggestion(SMALL_MODEL[method]["beta"], "for small models")
    elif not small:
        suggestions["beta"] = Suggestion(METHODS[method]().beta, "as published")
    suggestions["batch_size"] = _batch_size(METHODS[method].paired, count)
    batch_size = chosen.get("batch_size", suggestions["batch_size"].value)
    suggestions["steps"] = _steps(count, batch_size, chosen.get("epochs", 0), small)
    if limit := _context(architecture):
        if limit < 2048:
            suggestions["max_length_tokens"] = Suggestion(limit, "the model's limit")
    held_out = suggestions["held_out_share"] = _held_out_share(count, summary)
    suggestions["evaluate_every"] = _evaluate_every(
        chosen.get("steps", suggestions["steps"].value), chosen.get("held_out_share", held_out.value)
    )
    kind = likely_device(chosen.get("device", device))
    suggestions["precision"] = _precision(kind)
    suggestions["tokens_per_forward"] = Suggestion(0, f"{tokens_per_forward(0, kind):,} on {kind}")
    if METHODS[method] is KTOConfig:
        suggestions |= _class_weights(summary, chosen)
    return suggestions


def tokens_per_forward(wanted: int, device: str) -> int:
    """Return how many tokens a forward pass computes. wanted: as in the config; device: "cpu", "cuda" or "mps"."""
    return wanted or TOKENS_PER_FORWARD.get(device, OTHER_TOKENS_PER_FORWARD)


def _learning_rate(method: str, width: int | None, on_top: bool) -> Suggestion:
    base = SMALL_MODEL[method]["learning_rate"] * (ON_TOP_SHARE if on_top else 1.0)
    value = float(f"{base * min(1.0, (SMALL_WIDTH / (width or UNKNOWN_WIDTH)) ** WIDTH_POWER):.2g}")
    if width is None:
        return Suggestion(value, "model size not known yet")
    return Suggestion(value, f"for width {width}{', on top of a run' if on_top else ''}")


def _batch_size(paired: bool, count: int) -> Suggestion:
    usual = BATCH_SIZE[paired]
    if 0 < count < usual:
        return Suggestion(count, "all there is")
    return Suggestion(usual, "")


def _steps(count: int, batch_size: int, epochs: float, small: bool) -> Suggestion:
    least = SMALL_STEPS if small else LARGE_STEPS
    if not count:
        return Suggestion(least, "")
    if epochs:
        steps = min(MOST_STEPS, max(1, math.ceil(epochs * count / batch_size)))
        return Suggestion(steps, f"{epochs:g} passes over {count}")
    passes = PASSES if count < 2000 else PASSES_FROM_2000
    steps = max(least, math.ceil(passes * count / batch_size))
    return Suggestion(steps, f"{steps * batch_size / count:.1f} passes over {count}")


def _held_out_share(count: int, summary: LabelSummary | None) -> Suggestion:
    if summary is not None and summary.prompts is not None and summary.prompts < 2:
        return Suggestion(0.0, "all belong to one prompt, and prompts are held out whole")
    if count < HELD_OUT_FROM:
        return Suggestion(0.0, f"none below {HELD_OUT_FROM}: all are needed to train on")
    return Suggestion(HELD_OUT_SHARE, f"about {round(HELD_OUT_SHARE * count)} of {count}, by prompt, to measure on")


def _evaluate_every(steps: int, held_out_share: float) -> Suggestion:
    if not held_out_share:
        return Suggestion(0, "nothing is held out")
    return Suggestion(max(1, math.ceil(steps / EVALUATIONS)), f"{EVALUATIONS} times in all")


def _precision(device: str) -> Suggestion:
    return Suggestion(
        "auto", {"cuda": "bfloat16 where the GPU computes in it, else float16"}.get(device, f"float32 on {device}")
    )


def _class_weights(summary: LabelSummary | None, chosen: Mapping[str, Any]) -> dict[str, Suggestion]:
    """Return KTO's weights. They stay automatic: what is left out or held out changes the counts a little."""
    if summary is None or not summary.desirable or not summary.undesirable:
        return {}
    set_by_hand = {name: chosen[name] for name in ("desirable_weight", "undesirable_weight") if name in chosen}
    desirable, undesirable = class_weights(summary.desirable, summary.undesirable, KTOConfig(**set_by_hand))
    counted = f"{summary.desirable} good, {summary.undesirable} bad, so"
    return {
        "desirable_weight": Suggestion(None, f"{counted} {desirable:.2g}"),
        "undesirable_weight": Suggestion(None, f"{counted} {undesirable:.2g}"),
    }


def _width(architecture: Mapping[str, Any]) -> int | None:
    for values in (architecture, architecture.get("text_config") or {}):
        for name in ("hidden_size", "n_embd", "d_model"):
            if isinstance(values.get(name), int):
                return values[name]
    return None


def _context(architecture: Mapping[str, Any]) -> int | None:
    for values in (architecture, architecture.get("text_config") or {}):
        for name in ("max_position_embeddings", "n_positions"):
            if isinstance(values.get(name), int):
                return values[name]
    return None
