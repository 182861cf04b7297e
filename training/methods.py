"""The methods to train with: one config class each, with its words for people. Does not know their formulas.

A new method is one class here and one function in `losses.py`; the page's menu, the command line, the docs and
the tests read everything else from the two tables. No torch: the web process imports this.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar


def setting(
    default: Any,
    help: str,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare a field of a config: its default, its meaning, unit and effect, and what it may be.

    above, below: exclusive bounds; least, most: inclusive ones; choices: the allowed texts.
    """
    bounds = {"above": above, "least": least, "below": below, "most": most}
    bounds = {name: value for name, value in bounds.items() if value is not None}
    metadata = {"help": help, "choices": choices, **bounds}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class MethodConfig:
    """The settings of one method. Class attributes describe the method itself.

    name: what the command line and the database call it. title, about: for people, about in one sentence.
    paired: learns from pairs; else from single responses, good or bad. needs_reference: compares with the base
    model, whose log-probs are then computed once before the first step. source: the paper.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    about: ClassVar[str]
    source: ClassVar[str]
    paired: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True


BETA_HELP = (
    "Strength of the tie to the base model, in reward per nat of log-ratio. Smaller lets the model move further;"
    " larger keeps it closer."
)


@dataclass(frozen=True)
class DPOConfig(MethodConfig):
    """Direct preference optimisation."""

    name: ClassVar[str] = "dpo"
    title: ClassVar[str] = "DPO"
    about: ClassVar[str] = (
        "Makes preferred answers more likely than the others, compared with the base model. The usual choice "
        "for pairs."
    )
    source: ClassVar[str] = "Rafailov 2023, arXiv 2305.18290"

    beta: float = setting(0.1, BETA_HELP, above=0, most=1000)
    label_smoothing: float = setting(
        0.0,
        "Share of labels assumed to be the wrong way round, 0 to 0.5 (conservative DPO). Above 0 the model is "
        "pushed less far.",
        least=0, below=0.5,
    )


@dataclass(frozen=True)
class KTOConfig(MethodConfig):
    """Kahneman–Tversky optimisation, from single good and bad responses."""

    name: ClassVar[str] = "kto"
    title: ClassVar[str] = "KTO"
    about: ClassVar[str] = (
        "Learns from single answers marked good or bad; pairs count too, as one good and one bad answer."
    )
    source: ClassVar[str] = "Ethayarajh 2024, arXiv 2402.01306"
    paired: ClassVar[bool] = False

    beta: float = setting(0.1, BETA_HELP, above=0, most=1000)
    desirable_weight: float | None = setting(
        None,
        "Weight of each good answer. Empty: chosen so that good and bad weigh the same overall.",
        above=0, most=1000,
    )
    undesirable_weight: float | None = setting(
        None,
        "Weight of each bad answer. Empty: chosen so that good and bad weigh the same overall.",
        above=0, most=1000,
    )
    reference_point: str = setting(
        "kl",
        "What a reward is measured against: `kl`, the model's estimated distance from the base (the paper), or"
        " `zero`, the simplified form.",
        choices=("kl", "zero"),
    )


@dataclass(frozen=True)
class IPOConfig(MethodConfig):
    """Identity preference optimisation."""

    name: ClassVar[str] = "ipo"
    title: ClassVar[str] = "IPO"
    about: ClassVar[str] = (
        "Aims at a fixed lead of the preferred answer and stops there: holds back where DPO overfits."
    )
    source: ClassVar[str] = "Azar 2023, arXiv 2310.12036"

    beta: float = setting(
        0.1,
        "Strength of the tie to the base model (τ in the paper). The lead aimed at is 1 ÷ 2β nats.",
        above=0, most=1000,
    )
    form: str = setting(
        "sum",
        "What leads: `sum`, the whole answer's log-ratio (the paper); `mean`, its mean per token (the authors' code,"
        " needs another β); `reward`, β × log-ratio with a lead of 1 ÷ β (lecture notes), which is 1 ÷ β² nats.",
        choices=("sum", "mean", "reward"),
    )


@dataclass(frozen=True)
class SimPOConfig(MethodConfig):
    """Simple preference optimisation, without a reference model."""

    name: ClassVar[str] = "simpo"
    title: ClassVar[str] = "SimPO"
    about: ClassVar[str] = (
        "Compares mean log-probs per token, without the base model: fast, no pull towards long answers, "
        "easier to overdo."
    )
    source: ClassVar[str] = "Meng 2024, arXiv 2405.14734"
    needs_reference: ClassVar[bool] = False

    beta: float = setting(
        2.0,
        "Scale of the reward, in reward per nat of mean log-prob. Larger separates the answers more sharply.",
        above=0, most=1000,
    )
    gamma: float = setting(
        1.0, "Lead that the preferred answer should have, in reward. 0 asks for none.", least=0, most=1000
    )
    nll_weight: float = setting(
        0.0,
        "Weight of an added −log p per token of the preferred answer, which keeps the text fluent. 0: SimPO "
        "as published.",
        least=0, most=1000,
    )


@dataclass(frozen=True)
class RobustConfig(MethodConfig):
    """DPO made unbiased for labels of which a known share is wrong."""

    name: ClassVar[str] = "robust"
    title: ClassVar[str] = "Robust DPO"
    about: ClassVar[str] = "DPO corrected for a known share of wrong labels: for hurried or many annotators."
    source: ClassVar[str] = "Chowdhury 2024, arXiv 2403.00409"

    beta: float = setting(0.1, BETA_HELP, above=0, most=1000)
    label_smoothing: float = setting(
        0.1, "Share of labels that are the wrong way round, 0 to 0.5; 0 is plain DPO.", least=0, below=0.5
    )


@dataclass(frozen=True)
class HingeConfig(MethodConfig):
    """The SLiC-HF margin loss, relative to the reference."""

    name: ClassVar[str] = "hinge"
    title: ClassVar[str] = "Hinge"
    about: ClassVar[str] = "Pushes each pair until its lead is 1 ÷ β nats, then leaves it alone."
    source: ClassVar[str] = "Zhao 2023, arXiv 2305.10425 (reference-relative variant)"

    beta: float = setting(0.1, BETA_HELP, above=0, most=1000)


@dataclass(frozen=True)
class ORPOConfig(MethodConfig):
    """Odds-ratio preference optimisation, without a reference model."""

    name: ClassVar[str] = "orpo"
    title: ClassVar[str] = "ORPO"
    about: ClassVar[str] = (
        "Imitates the preferred answers and lowers the odds of the others, in one step and without the base "
        "model."
    )
    source: ClassVar[str] = "Hong 2024, arXiv 2403.07691"
    needs_reference: ClassVar[bool] = False

    beta: float = setting(0.1, "Weight of the odds-ratio term beside imitation (λ in the paper).", above=0, most=1000)


@dataclass(frozen=True)
class APOZeroConfig(MethodConfig):
    """Anchored preference optimisation, zero variant."""

    name: ClassVar[str] = "apo_zero"
    title: ClassVar[str] = "APO-zero"
    about: ClassVar[str] = (
        "Raises preferred answers and lowers the others, each by itself: for answers better than what the "
        "model writes now."
    )
    source: ClassVar[str] = "D'Oosterlinck 2024, arXiv 2408.06266"

    beta: float = setting(0.1, BETA_HELP, above=0, most=1000)


@dataclass(frozen=True)
class APODownConfig(MethodConfig):
    """Anchored preference optimisation, down variant."""

    name: ClassVar[str] = "apo_down"
    title: ClassVar[str] = "APO-down"
    about: ClassVar[str] = (
        "Lowers both answers, the other one more: for a model that already writes better than the preferred "
        "answers."
    )
    source: ClassVar[str] = "D'Oosterlinck 2024, arXiv 2408.06266"

    beta: float = setting(0.1, BETA_HELP, above=0, most=1000)


def class_weights(desirable: int, undesirable: int, config: KTOConfig) -> tuple[float, float]:
    """Return λ_D and λ_U: as set, else so that λ_D·n_D ÷ (λ_U·n_U) lies in [1, 4/3], the paper's range.

    Counts are of training examples, both at least 1. The rarer class is raised, the other keeps weight 1.
    """
    ratio = desirable / undesirable
    automatic = (1.0, 1.0)
    if ratio < 1:
        automatic = (1 / ratio, 1.0)
    elif ratio > 4 / 3 and not math.isclose(ratio, 4 / 3):
        automatic = (1.0, ratio)
    return (
        automatic[0] if config.desirable_weight is None else config.desirable_weight,
        automatic[1] if config.undesirable_weight is None else config.undesirable_weight,
    )


def weights_sentence(desirable: int, undesirable: int, config: KTOConfig) -> str:
    """Say how much good and bad answers weigh, and why; counts as in `class_weights`."""
    weights = class_weights(desirable, undesirable, config)
    reason = f"{desirable} good, {undesirable} bad, so desirable {weights[0]:.2g} and undesirable {weights[1]:.2g}."
    return f"{config.title}: {reason}"


METHODS: dict[str, type[MethodConfig]] = {
    config.name: config
    for config in (
        DPOConfig, KTOConfig, IPOConfig, SimPOConfig, RobustConfig, HingeConfig, ORPOConfig, APOZeroConfig,
        APODownConfig,
    )
}
