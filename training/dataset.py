"""Labels → training examples, and the sentence that says what there is. Does not know tokens or models.

Ties are ties: they are left out everywhere. No torch: the web process imports this.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from errors import ConfigError
from storage import Store
from storage.records import Message
from training.methods import METHODS

# In the order of LabelSummary's fields; no method trains on ties.
VERDICTS = ("chosen", "tie", "both_bad", "good", "bad")
TRAINED_ON = tuple(name for name in VERDICTS if name != "tie")
NO_LABELS = "No labels yet: go to Label, 20 pairs take about two minutes."


@dataclass(frozen=True)
class PairedExample:
    """One preference: of two responses to a prompt, which is better."""

    label_id: int
    prompt_id: int
    messages: list[Message]
    chosen: str
    rejected: str


@dataclass(frozen=True)
class UnpairedExample:
    """One judgement: a response to a prompt is desirable, or not."""

    label_id: int
    prompt_id: int
    messages: list[Message]
    response: str
    desirable: bool


@dataclass(frozen=True)
class LabelSummary:
    """How many current labels of each kind a project has, and of how many prompts (None: not counted)."""

    pairs: int = 0
    ties: int = 0
    both_bad: int = 0
    good: int = 0
    bad: int = 0
    prompts: int | None = None

    @property
    def desirable(self) -> int:
        """Responses that KTO raises: the preferred of each pair, and those marked good."""
        return self.pairs + self.good

    @property
    def undesirable(self) -> int:
        """Responses that KTO lowers: the other of each pair, both of a bad pair, and those marked bad."""
        return self.pairs + self.bad + 2 * self.both_bad

    @property
    def suggested(self) -> str:
        """The method that fits the labels: DPO where most are pairs, KTO where most are single responses."""
        singles = self.good + self.bad + 2 * self.both_bad
        return "kto" if singles > self.pairs else "dpo"

    @property
    def sentence(self) -> str:
        """What there is, in one line for people."""
        counted = [
            f"{count} {one if count == 1 else many}"
            for count, one, many in (
                (self.pairs, "pair", "pairs"),
                (self.both_bad, "pair of bad answers", "pairs of bad answers"),
                (self.good, "good answer", "good answers"),
                (self.bad, "bad answer", "bad answers"),
            )
            if count
        ]
        if self.ties:
            counted.append(f"{self.ties} {'tie' if self.ties == 1 else 'ties'} left out")
        if not counted:
            return NO_LABELS
        problem = self.problem(self.suggested)
        return f"{', '.join(counted)}; {problem or METHODS[self.suggested].title + ' suggested'}"

    def examples(self, paired: bool) -> int:
        """Return how many examples a paired or unpaired method would have."""
        return self.pairs if paired else self.desirable + self.undesirable

    def problem(self, method: str) -> str | None:
        """Say why a method cannot train on these labels, and what to do; None when it can."""
        title = METHODS[method].title
        if METHODS[method].paired:
            if self.pairs >= 2:
                return None
            few = f"{title} needs at least two pairs with a preferred answer, here {'is' if self.pairs == 1 else 'are'}"
            advice = "KTO can use these labels" if self.desirable and self.undesirable else "label some more"
            return f"{few} {self.pairs or 'none'}: {advice}"
        if self.desirable and self.undesirable:
            return None
        if not self.desirable and not self.undesirable:
            return f"{title} needs answers marked good and answers marked bad, here are none: label some"
        missing, present = ("bad", "good") if self.desirable else ("good", "bad")
        return f"{title} needs good and bad answers, and all here are {present}: mark some {missing} ones"

    def check(self, method: str) -> None:
        """Raise ConfigError when a method cannot train on these labels."""
        if problem := self.problem(method):
            raise ConfigError(f"{problem}.")


def summarise(store: Store, project_id: int) -> LabelSummary:
    """Return what labels a project has now."""
    counts = store.labels.counts(project_id)
    return LabelSummary(*(counts[name] for name in VERDICTS), store.labels.prompts(project_id, TRAINED_ON))


def summary_of(rows: Iterable[dict[str, Any]]) -> LabelSummary:
    """Return what labels are among rows of `store.labels.judged`."""
    rows = list(rows)
    counts = Counter(row["verdict"] for row in rows)
    prompts = len({row["prompt_id"] for row in rows if row["verdict"] in TRAINED_ON})
    return LabelSummary(*(counts[name] for name in VERDICTS), prompts)


def snapshot_hash(rows: Iterable[dict[str, Any]]) -> str:
    """Return a sha256 that is equal for equal labels: their numbers, verdicts, prompts and responses, in order."""
    told = [[row["label_id"], row["verdict"], row["messages"], row["responses"]] for row in rows]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def examples_for(method: str, rows: Iterable[dict[str, Any]]) -> list[PairedExample] | list[UnpairedExample]:
    """Return the examples that a method learns from, in label order."""
    return paired_examples(rows) if METHODS[method].paired else unpaired_examples(rows)


def paired_examples(rows: Iterable[dict[str, Any]]) -> list[PairedExample]:
    """Return one example for each pair with a preferred response. rows: as `store.labels.judged` yields them."""
    examples = []
    for row in rows:
        if row["verdict"] == "chosen":
            first, second = row["responses"]
            chosen, rejected = (first, second) if first["chosen"] else (second, first)
            examples.append(
                PairedExample(row["label_id"], row["prompt_id"], row["messages"], chosen["text"], rejected["text"])
            )
    return examples


def unpaired_examples(rows: Iterable[dict[str, Any]]) -> list[UnpairedExample]:
    """Return one example for each judged response: one of a single, two of a pair that is no tie."""
    return [
        UnpairedExample(row["label_id"], row["prompt_id"], row["messages"], text, desirable)
        for row in rows
        for text, desirable in _judged_responses(row)
    ]


def _judged_responses(row: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    for response in row["responses"]:
        if row["verdict"] == "chosen":
            yield response["text"], response["chosen"]
        elif row["verdict"] in ("good", "bad", "both_bad"):
            yield response["text"], row["verdict"] == "good"
