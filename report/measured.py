"""What was measured of a run, as plain values in a JSON file of its folder. Knows no torch and no page.

A reward is what the run's own loss calls so. A margin is the reward of the preferred answer minus that of the other;
of an answer that was judged alone, how far its reward is on the right side of the point the loss compares it with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from errors import StorageError
from report.intervals import Interval, correlation, mean, ordered, share

FILE_NAME = "report.json"
VERSION = 1


@dataclass(frozen=True)
class Example:
    """One example of the run before and after training.

    desirable: of an answer judged alone, whether it was called good; None for a pair. base, policy: log-probs (sums),
    of a pair those of the preferred and of the other answer, else of the one. tokens: their lengths, end-of-turn
    included. rewards_before, rewards_after: theirs.
    """

    label_id: int
    item_id: int
    prompt_id: int
    held_out: bool
    desirable: bool | None
    base: tuple[float, ...]
    policy: tuple[float, ...]
    tokens: tuple[int, ...]
    rewards_before: tuple[float, ...]
    rewards_after: tuple[float, ...]
    margin_before: float
    margin_after: float
    loss_before: float
    loss_after: float

    @classmethod
    def of(cls, values: dict[str, Any]) -> Example:
        """Read what `dataclasses.asdict` made."""
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    @property
    def longer_by(self) -> int:
        """By how many tokens the preferred answer of a pair is longer; else the length of the one."""
        return self.tokens[0] - sum(self.tokens[1:])

    @property
    def leads(self) -> tuple[float, float]:
        """Of a pair: log-prob of the preferred answer minus that of the other, under the base and under the run."""
        return self.base[0] - self.base[1], self.policy[0] - self.policy[1]


@dataclass(frozen=True)
class Figures:
    """What a set of examples says; None where it says nothing.

    likelier_*: of how many pairs the preferred answer is the more likely one. accuracy_*: with how many labels the
    rewards agree; before training those of a method with a reference are all 0, so there is none. by_length, by_model:
    how often the longer answer, and the one with the higher reward, is the better one, over the same pairs (of
    answers judged alone: over each good one with each bad one). length_correlation: of margin and extra length.
    """

    examples: int
    prompts: int
    loss_before: Interval | None
    loss_after: Interval | None
    likelier_before: Interval | None
    likelier_after: Interval | None
    accuracy_before: Interval | None
    accuracy_after: Interval | None
    by_length: Interval | None
    by_model: Interval | None
    length_correlation: Interval | None

    @classmethod
    def of(cls, values: dict[str, Any] | None) -> Figures | None:
        """Read what `dataclasses.asdict` made of one, or of None."""
        if values is None:
            return None
        return cls(**{
            name: value if name in ("examples", "prompts") else Interval.of(value) for name, value in values.items()
        })


@dataclass(frozen=True)
class Contradicted:
    """A label that the run contradicts. weight: 0 to 1, of its gradient in the run's own loss (DPO's, for pairs).

    prompt: the last message. texts: what was said to be better, then the other; of an answer judged alone, it.
    """

    label_id: int
    item_id: int
    annotator: str
    held_out: bool
    desirable: bool | None
    weight: float
    prompt: str
    texts: tuple[str, ...]

    @classmethod
    def of(cls, values: dict[str, Any]) -> Contradicted:
        """Read what `dataclasses.asdict` made."""
        return cls(**{**values, "texts": tuple(values["texts"])})


@dataclass(frozen=True)
class Sample:
    """One prompt answered before and after training, with the same random numbers.

    cut: the answers, before and after, that had not ended when they were as long as allowed.
    """

    prompt_id: int
    held_out: bool
    prompt: str
    before: str
    after: str
    tokens: tuple[int, int]
    cut: tuple[bool, bool]

    @classmethod
    def of(cls, values: dict[str, Any]) -> Sample:
        """Read what `dataclasses.asdict` made."""
        return cls(**{**values, "tokens": tuple(values["tokens"]), "cut": tuple(values["cut"])})


@dataclass(frozen=True)
class Measured:
    """Everything that was measured of one run.

    held_out, trained: what the examples that it did not and did learn from say. lengths: tokens of an answer to
    `samples`, before and after. kl: nats that an answer of the run is more likely under the run than under the base;
    kl_per_token: the same, divided by all tokens. notes: what was left out, a sentence each.
    """

    run_id: int
    method: str
    needs_reference: bool
    measured_at: float
    examples: tuple[Example, ...]
    held_out: Figures | None
    trained: Figures | None
    contradicted: tuple[Contradicted, ...]
    samples: tuple[Sample, ...]
    temperature: float
    lengths: tuple[Interval | None, Interval | None]
    kl: Interval | None
    kl_per_token: float | None
    notes: tuple[str, ...] = ()
    version: int = VERSION

    @property
    def paired(self) -> bool:
        """True when the run learned from pairs."""
        return any(example.desirable is None for example in self.examples)

    def to_json(self) -> str:
        """Return all of it as JSON."""
        return json.dumps(asdict(self), ensure_ascii=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Measured:
        """Read what `to_json` gave. Raises ValueError when it is something else."""
        try:
            values = json.loads(text)
            if values["version"] != VERSION:
                raise ValueError(f"version {values['version']}")
            return cls(**{
                **values,
                "examples": tuple(map(Example.of, values["examples"])),
                "held_out": Figures.of(values["held_out"]),
                "trained": Figures.of(values["trained"]),
                "contradicted": tuple(map(Contradicted.of, values["contradicted"])),
                "samples": tuple(map(Sample.of, values["samples"])),
                "lengths": tuple(map(Interval.of, values["lengths"])),
                "kl": Interval.of(values["kl"]),
                "notes": tuple(values["notes"]),
            })
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a report: {error!r}") from error


def figures_of(examples: Sequence[Example], needs_reference: bool, rounding: float = 0.0) -> Figures | None:
    """Return what examples say; None without any. rounding: margins this close to 0 are ties."""
    if not examples:
        return None
    prompts = [example.prompt_id for example in examples]
    pairs = [example for example in examples if example.desirable is None]
    singles = [example for example in examples if example.desirable is not None]
    of_pairs = [example.prompt_id for example in pairs]
    right = share([_half(example.margin_after, rounding) for example in examples], prompts)
    if pairs:
        by_length, by_model = share([_half(example.longer_by) for example in pairs], of_pairs), right
        extra, against = [example.longer_by for example in pairs], [example.margin_after for example in pairs]
    else:
        good, own = [bool(example.desirable) for example in singles], [example.prompt_id for example in singles]
        extra, against = ([example.tokens[0] for example in singles], [example.rewards_after[0] for example in singles])
        by_length, by_model = ordered(extra, good, own), ordered(against, good, own)
    return Figures(
        examples=len(examples),
        prompts=len(set(prompts)),
        loss_before=mean([example.loss_before for example in examples], prompts),
        loss_after=mean([example.loss_after for example in examples], prompts),
        likelier_before=share([_half(example.leads[0]) for example in pairs], of_pairs),
        likelier_after=share([_half(example.leads[1]) for example in pairs], of_pairs),
        accuracy_before=None if needs_reference else share([_half(example.margin_before) for example in examples], prompts),
        accuracy_after=right,
        by_length=by_length,
        by_model=by_model,
        length_correlation=correlation(extra, against),
    )


def write(measured: Measured, folder: Path) -> Path:
    """Put a report into a run's folder, whole or not at all; return its file. Raises StorageError."""
    path = folder / FILE_NAME
    unfinished = path.with_name(f"{FILE_NAME}.unfinished")
    try:
        unfinished.write_text(measured.to_json(), encoding="utf-8")
        os.replace(unfinished, path)
    except OSError as error:
        raise StorageError(f"The report could not be written to {path} ({error}). Free some space and measure again.") from error
    return path


def read(folder: Path) -> Measured | None:
    """Return the report of a run's folder; None while there is none, or where it is of another version."""
    try:
        return Measured.from_json((folder / FILE_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise StorageError(f"{folder / FILE_NAME} cannot be read ({error}). Measure the run again.") from error


def _half(lead: float, rounding: float = 0.0) -> float:
    """Return 1 for a lead, ½ for none, 0 for the opposite."""
    return 0.5 * ((lead > rounding) + (lead >= -rounding))
