"""Labels → training examples, and the sentence that says what there is. Does not know tokens or models.

Ties are ties: they are left out everywhere. No torch: the web process imports this.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from errors import ConfigError
from storage import Store
from storage.judged import judgements
from storage.records import Message
from training.methods import METHODS

# Which field of LabelSummary counts a verdict; no method trains on ties.
FIELDS = {
    "chosen": "pairs", "tie": "ties", "both_bad": "both_bad", "good": "good", "bad": "bad", "edited": "edits",
    "ranked": "rankings",
}
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
    """How many labels of each kind there are, and of how many prompts (None: not counted).

    edits: better answers that people wrote. ranked_pairs: what the rankings say of two responses each; ranked_good,
    ranked_bad: responses in their first and in their last tiers.
    """

    pairs: int = 0
    ties: int = 0
    both_bad: int = 0
    good: int = 0
    bad: int = 0
    edits: int = 0
    rankings: int = 0
    ranked_pairs: int = 0
    ranked_good: int = 0
    ranked_bad: int = 0
    prompts: int | None = None

    @property
    def compared(self) -> int:
        """Pairs of responses of which one is better: what paired methods learn from."""
        return self.pairs + self.ranked_pairs + self.edits

    @property
    def desirable(self) -> int:
        """Responses that KTO raises: the preferred of each pair, the best of each ranking, and those marked good."""
        return self.pairs + self.edits + self.ranked_good + self.good

    @property
    def undesirable(self) -> int:
        """Responses that KTO lowers: the other of each pair, both of a bad one, the worst ranked, those marked bad."""
        return self.pairs + self.edits + self.ranked_bad + self.bad + 2 * self.both_bad

    @property
    def suggested(self) -> str:
        """The method that fits the labels: DPO where most are pairs, KTO where most are single responses."""
        singles = self.good + self.bad + 2 * self.both_bad
        return "kto" if singles > self.compared else "dpo"

    @property
    def sentence(self) -> str:
        """What there is, in one line for people."""
        counted = [
            f"{count} {one if count == 1 else many}"
            for count, one, many in (
                (self.pairs, "pair", "pairs"),
                (self.rankings, *(f"{word} (as {self.ranked_pairs} pairs)" for word in ("ranking", "rankings"))),
                (self.edits, "better answer written", "better answers written"),
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
        return self.compared if paired else self.desirable + self.undesirable

    def problem(self, method: str) -> str | None:
        """Say why a method cannot train on these labels, and what to do; None when it can."""
        title = METHODS[method].title
        if METHODS[method].paired:
            if self.compared >= 2:
                return None
            few = f"{title} needs at least two pairs with a preferred answer, here {'is' if self.compared == 1 else 'are'}"
            advice = "KTO can use these labels" if self.desirable and self.undesirable else "label some more"
            return f"{few} {self.compared or 'none'}: {advice}"
        if self.desirable and self.undesirable:
            return None
        if not self.desirable and not self.undesirable:
            return f"{title} needs answers marked good and answers marked bad, here are none: label some"
        missing, present = ("bad", "good") if self.desirable else ("good", "bad")
        return f"{title} needs good and bad answers, and all here are {present}: mark some {missing} ones"

    def check(self, method: str, which: str = "all") -> None:
        """Raise ConfigError when a method cannot train on these labels. which: those of the project that they are."""
        if problem := self.problem(method):
            raise ConfigError(f"{problem}." if which == "all" else f"Of the {which} labels alone, {problem}.")


def summarise(store: Store, project_id: int, which: str = "all") -> LabelSummary:
    """Return what labels a project has now, of those that count; which: as in `storage.judged`."""
    tally = store.labels.tally(project_id, which)
    verdicts = {field: tally.verdicts[verdict] for verdict, field in FIELDS.items()}
    summary = LabelSummary(**verdicts, prompts=tally.prompts)
    return replace(
        summary,
        ranked_pairs=sum((sum(tiers) ** 2 - sum(size**2 for size in tiers)) // 2 for tiers in tally.tiers),
        ranked_good=sum(tiers[0] for tiers in tally.tiers),
        ranked_bad=sum(tiers[-1] for tiers in tally.tiers),
    )


def summary_of(rows: Iterable[dict[str, Any]]) -> LabelSummary:
    """Return what labels are among rows of `store.labels.judged`."""
    rows = list(rows)
    said = {row["label_id"]: row["said"] for row in rows}
    ranked = [row for row in rows if row["said"] == "ranked"]
    judged = [good for _, _, good in judgements(ranked)]
    return LabelSummary(
        **{field: sum(verdict == word for word in said.values()) for verdict, field in FIELDS.items()},
        ranked_pairs=len(ranked),
        ranked_good=sum(judged),
        ranked_bad=len(judged) - sum(judged),
        prompts=len({row["prompt_id"] for row in rows if row["said"] != "tie"}),
    )


def learned_before(store: Store, project_id: int, start_run: int) -> frozenset[int]:
    """Return a project's prompts that `start_run`, or a run before it, has learned from: whoever goes on from it must not
    hold them out. start_run: 0 for a run that begins afresh. Raises NotFoundError."""
    return frozenset(store.prompts.trained(project_id, store.runs.ancestors(start_run)))


def snapshot_hash(rows: Iterable[dict[str, Any]]) -> str:
    """Return a sha256 that is equal for equal labels: their numbers, verdicts, prompts and responses, in order."""
    told = [[row["label_id"], row["verdict"], row["messages"], row["responses"]] for row in rows]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def examples_for(method: str, rows: Iterable[dict[str, Any]]) -> list[PairedExample] | list[UnpairedExample]:
    """Return the examples that a method learns from, in label order."""
    return paired_examples(rows) if METHODS[method].paired else unpaired_examples(rows)


def paired_examples(rows: Iterable[dict[str, Any]]) -> list[PairedExample]:
    """Return one example for each two responses of which one is better. rows: as `store.labels.judged` yields them."""
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
    """Return one example for each response that a label calls good or bad."""
    return [
        UnpairedExample(row["label_id"], row["prompt_id"], row["messages"], response["text"], desirable)
        for row, response, desirable in judgements(rows)
    ]
