"""Everything a run is told, as one frozen dataclass, checked as a whole. Does not know labels, models or pages.

`build` makes a config from a method, a model and what the user changed; `defaults.py` fills in the rest with a
reason each. The whole config is stored with the run and beside the adapter. No torch: the web process imports this.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from errors import ConfigError
from models.precision import FOUR_BIT, four_bit_problem
from storage.judged import WHICH
from training.defaults import MOST_STEPS, Suggestion, suggest
from training.methods import METHODS, DPOConfig, MethodConfig, setting

if TYPE_CHECKING:
    from training.dataset import LabelSummary


BOOLEANS = {
    **dict.fromkeys(("yes", "true", "on", "1"), True),
    **dict.fromkeys(("no", "false", "off", "0"), False),
}
MOST_QUOTED = 40


@dataclass(frozen=True)
class TrainingConfig:
    """The settings of one run.

    method: a name in METHODS. model: "demo", a folder, or a hub name. loss: the method's own settings.
    """

    method: str = "dpo"
    model: str = "demo"
    loss: MethodConfig = DPOConfig()
    labels: str = setting(
        "all",
        "Which labels to learn from: `all` votes, each for itself; `majority`, for each item what most say (a final"
        " label decides, an even split is left out); `adjudicated`, final labels only; `unanimous`, what two people or"
        " more say without exception.",
        choices=WHICH,
    )
    learning_rate: float = setting(
        1e-4,
        "Peak learning rate of AdamW. Higher learns faster and sooner breaks the text; it falls with model width.",
        above=0,
    )
    steps: int = setting(
        60, "Optimiser steps. More steps follow the labels further, and in the end too far.", least=1, most=MOST_STEPS
    )
    epochs: float = setting(
        0.0,
        "Passes over the labels, instead of a number of steps; 0 leaves the choice to `steps`.",
        least=0, most=10**5,
    )
    batch_size: int = setting(8, "Pairs (for KTO: responses) per optimiser step.", least=1, most=10**5)
    max_length_tokens: int = setting(
        2048,
        "Longest prompt + response, in tokens. Longer prompts lose their beginning; a response that does not fit is"
        " left out.",
        least=8, most=10**7,
    )
    tokens_per_forward: int = setting(
        0,
        "Tokens computed at once; 0 leaves it to the device. Lower it when memory runs out; the result stays the same.",
        least=0, most=10**9,
    )
    held_out_share: float = setting(
        0.0,
        "Share of the labels kept out of training to measure on, whole prompts at a time, 0 to 0.5.",
        least=0, most=0.5,
    )
    evaluate_every: int = setting(
        0, "Steps between two measurements on what is held out; 0 measures only before and after training.",
        least=0, most=MOST_STEPS,
    )
    lora_rank: int = setting(8, "Rank of the adapter's matrices: how much it can change.", least=1, most=4096)
    lora_alpha: float = setting(16.0, "Scale of the adapter: its output is multiplied by alpha ÷ rank.", above=0)
    lora_dropout: float = setting(
        0.0,
        "Share of the adapter's inputs dropped in training, 0 to 0.9.",
        least=0, most=0.9,
    )
    lora_targets: str = setting(
        "all-linear", "Layers that get an adapter: `all-linear`, or names separated by commas (q_proj,v_proj)."
    )
    lora_rslora: bool = setting(
        False,
        "Rank-stabilised LoRA: the adapter is scaled by alpha ÷ √rank, so that high ranks learn as fast as low ones.",
    )
    lora_dora: bool = setting(
        False,
        "DoRA: also learns the length of each row of weights. Often a little better at low ranks, slower to train.",
    )
    warmup_ratio: float = setting(
        0.1,
        "Share of the steps over which the learning rate rises; then it falls to 0.",
        least=0, most=1,
    )
    weight_decay: float = setting(0.0, "Weight decay of AdamW on the adapter.", least=0)
    max_grad_norm: float = setting(1.0, "Gradients longer than this are shortened to it.", above=0)
    seed: int = setting(
        0,
        "Seed of the adapter's start and of the order of the labels. The same seed on a CPU gives the same "
        "adapter.",
        least=0, most=2**32 - 1,
    )
    start_run: int = setting(
        0,
        "Number of a finished run of the same base model whose adapter this one goes on from; 0 begins afresh. The adapter"
        " keeps that run's rank and layers; the reference stays the base model.",
        least=0, most=2**31,
    )
    device: str = setting("auto", "Where to train: `auto` (a GPU where there is one), `cpu`, `cuda`, `mps`.")
    devices: int = setting(
        1, "How many GPUs (on a CPU: processes) share each step. The result is that of one, but for rounding.",
        least=1, most=4096,
    )
    shard_base: bool = setting(
        False,
        "Divide the base model's layers among the devices (FSDP), for one that does not fit one of them. Slower.",
    )
    precision: str = setting(
        "auto",
        "Numbers of the base model: `auto` (bfloat16 on a GPU that computes in it, float16 on an older one, else"
        " float32), or one of them. float16 overflows in a few models (Gemma): then choose another. The adapter is"
        " always trained in float32.",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    quantization: str = setting(
        "none",
        "`4bit` keeps the base model's weights in 4 bits (NF4): a quarter of the memory of bfloat16, slower and a"
        " little less exact. Needs an NVIDIA GPU and the package bitsandbytes.",
        choices=("none", "4bit"),
    )
    checkpoint_seconds: float = setting(
        60.0, "Seconds between two checkpoints, from which a run can be taken up again; 0: one after every step.",
        least=0, most=86400,
    )

    def to_dict(self) -> dict[str, Any]:
        """Return the config as plain JSON values; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingConfig:
        """Read what `to_dict` gave. Raises ConfigError when it names a method or key this version does not have."""
        values = dict(values)
        loss = METHODS[checked_method(values.get("method", "dpo"))]
        try:
            return cls(**{**values, "loss": loss(**values["loss"])})
        except (TypeError, KeyError) as error:
            raise ConfigError(
                f"The run's stored settings are not those of this version of the program ({error})."
            ) from error


def settings_of(method: str) -> list[Field]:
    """Return the fields a user may set for a method: its own first, then those of every run."""
    common = [spec for spec in fields(TrainingConfig) if "help" in spec.metadata]
    return [*fields(METHODS[checked_method(method)]), *common]


def checked_method(name: str) -> str:
    """Return `name` when it is a method. Raises ConfigError naming the methods there are."""
    if name in METHODS:
        return name
    raise ConfigError(f"There is no method {name!r}{_nearest(name, METHODS)}. Methods: {', '.join(METHODS)}.")


def build(
    method: str,
    model: str,
    overrides: Mapping[str, Any] | None = None,
    summary: LabelSummary | None = None,
    architecture: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> TrainingConfig:
    """Make the config of a run: what the user changed, and sane defaults for the rest.

    overrides: settings by name, as texts or values; "" and None leave the default. summary: the labels there
    are, which the number of steps follows. architecture: the model's config.json, as far as it is known, which
    the learning rate follows. device: where the program was told to train. Raises ConfigError listing every problem.
    """
    known = {spec.name: spec for spec in settings_of(method)}
    problems, values = [], {}
    for name, raw in (overrides or {}).items():
        if name not in known:
            problems.append(f"There is no setting {name!r} for {method}{_nearest(name, known)}")
        elif raw is not None and raw != "":
            try:
                values[name] = parsed(known[name], raw)
            except ConfigError as error:
                problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)
    suggested = suggest(method, architecture or {}, summary, values, device)
    return _assembled(method, model, {**{name: entry.value for name, entry in suggested.items()}, **values})


def explained(
    method: str,
    summary: LabelSummary | None = None,
    architecture: Mapping[str, Any] | None = None,
    device: str = "auto",
    chosen: Mapping[str, Any] | None = None,
) -> dict[str, Suggestion]:
    """Return, for every setting of a method, the value it gets when the user leaves it alone, and why.

    chosen: what the user set, by name and as values, which others follow. The rest as in `build`.
    """
    suggested = suggest(method, architecture or {}, summary, chosen or {}, device)
    return {spec.name: suggested.get(spec.name, Suggestion(spec.default, "")) for spec in settings_of(method)}


def parsed(spec: Field, raw: Any) -> Any:
    """Read one setting from a text or value and check its bounds. Raises ConfigError saying what it may be."""
    kind = str(spec.type).split(" | ")[0]
    try:
        if kind == "str":
            value = str(raw).strip()
        elif kind == "bool":
            value = raw if isinstance(raw, bool) else BOOLEANS[str(raw).strip().lower()]
        else:
            value = float(raw)
            if not math.isfinite(value):
                raise ValueError
            if kind == "int":
                if value != int(value):
                    raise ValueError
                value = int(value)
    except (TypeError, ValueError, OverflowError, KeyError):
        wanted = {"int": "a whole number", "bool": "yes or no"}.get(kind, "a number")
        raise ConfigError(f"{spec.name} must be {wanted}, not {str(raw)[:MOST_QUOTED]!r}") from None
    if problem := _problem(spec, value):
        raise ConfigError(problem)
    return value


def _problem(spec: Field, value: Any) -> str | None:
    bounds = spec.metadata
    if bounds["choices"] and value not in bounds["choices"]:
        return f"{spec.name} must be one of {', '.join(bounds['choices'])}, not {value[:MOST_QUOTED]!r}"
    for name, words, broken in (
        ("above", "more than", lambda bound: value <= bound),
        ("least", "at least", lambda bound: value < bound),
        ("below", "less than", lambda bound: value >= bound),
        ("most", "at most", lambda bound: value > bound),
    ):
        if name in bounds and broken(bounds[name]):
            bound = f"{bounds[name]:,}" if isinstance(bounds[name], int) else f"{bounds[name]:g}"
            return f"{spec.name} must be {words} {bound}, not {value:g}"
    return None


def _assembled(method: str, model: str, values: dict[str, Any]) -> TrainingConfig:
    if not model.strip():
        raise ConfigError("Name a model: demo, a folder, or a name on the hub.")
    if values.get("shard_base") and values.get("quantization") == FOUR_BIT:
        raise ConfigError("A base in 4 bits cannot be divided among devices: set shard_base or quantization, not both.")
    if values.get("quantization") == FOUR_BIT and (problem := four_bit_problem(values.get("device", "auto"))):
        raise ConfigError(problem)
    own = {spec.name for spec in fields(METHODS[method])}
    loss = METHODS[method](**{name: value for name, value in values.items() if name in own})
    common = {name: value for name, value in values.items() if name not in own}
    return replace(TrainingConfig(method=method, model=model.strip(), loss=loss), **common)


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else f" (there are: {', '.join(known)})"
