"""How far a project's annotators agree beyond chance: all of them, each two of them, and by reason.

Owns what a label says of an item, as a category. Does not know how agreement is measured (`measures`), nor a page.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

from review.measures import Measure, Table
from storage import Store
from storage.records import KINDS, SET_ASIDE, VOTE
from storage.votes import Vote

# What a label can say of one unit. A pair's sides are places in the item's stored order; a ranking is as many units as
# it has pairs of responses; whoever wrote a better answer said of every unit that none will do.
CATEGORIES = {
    "pair": ("first", "second", "tie", "both_bad", "edited"),
    "single": ("good", "bad", "edited"),
    "ranking": ("first", "second", "tie", "edited"),
}
NOUNS = {"pair": "pair", "single": "single answer", "ranking": "ranking"}


@dataclass(frozen=True)
class Tag:
    """Agreement on a reason. given: whether people give it to the same items; answers: on the label, where it is given.

    votes: how many name it.
    """

    votes: int
    given: Measure
    answers: Measure


@dataclass(frozen=True)
class Agreement:
    """How far the votes of one kind of item agree. cohen: by pairs of annotators, each pair in alphabetical order."""

    kind: str
    items: int
    annotators: tuple[str, ...]
    cohen: dict[tuple[str, str], Measure] = field(default_factory=dict)
    fleiss: Measure = Measure()
    krippendorff: Measure = Measure()
    tags: dict[str, Tag] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Return the figures as JSON values; what is undefined is None, and why under `undefined`."""
        cohen = {"|".join(pair): measure for pair, measure in self.cohen.items()}
        named = {**cohen, "fleiss": self.fleiss, "krippendorff": self.krippendorff}
        undefined = {name: measure.why for name, measure in named.items() if measure.value is None}
        if not cohen:
            undefined["cohen"] = self.krippendorff.why
        return {
            "kind": self.kind, "items": self.items, "annotators": len(self.annotators),
            "cohen": {name: measure.value for name, measure in cohen.items()},
            "fleiss": self.fleiss.value, "krippendorff": self.krippendorff.value,
            "intervals": {
                name: None if measure.low is None else [measure.low, measure.high] for name, measure in named.items()
            },
            "undefined": undefined,
        }

    def sentences(self) -> str:
        """Return the figures in words, one a line."""
        cohen = {f"Cohen's kappa, {x} and {y}": measure for (x, y), measure in self.cohen.items()}
        named = {"Krippendorff's alpha": self.krippendorff, "Fleiss' kappa": self.fleiss, **cohen}
        votes = f"{self.items:,} items of the kind {self.kind!r} have votes, from {len(self.annotators):,} annotators."
        return "\n".join([votes, *(f"{name}: {measure.sentence()}" for name, measure in named.items())])


def agreement(store: Store, project_id: int, kind: str | None = None, *, tags: bool = True) -> Agreement:
    """Return how far a project's current votes of one kind of item agree; votes on checks are left out.

    kind: the one with most votes when not given. tags: also by reason.
    """
    kind = kind or most_voted(store, project_id)
    votes = [vote for vote in store.votes.of_project(project_id, kind) if vote.role == VOTE and not vote.is_check]
    return measured(votes, kind, tags=tags)


def most_voted(store: Store, project_id: int) -> str:
    """Return the kind of item that has most votes in a project."""
    counts = store.labels.counts_by_kind(project_id)
    return max(KINDS, key=lambda kind: sum(counts[kind].values()) - sum(counts[kind][word] for word in SET_ASIDE))


def measured(votes: list[Vote], kind: str, *, tags: bool = True) -> Agreement:
    """Return how far votes on items of one kind agree. votes: item by item, one of each annotator."""
    names = tuple(sorted({vote.annotator for vote in votes}))
    if not votes:
        nothing = Measure(why=f"nobody has labelled a {NOUNS[kind]} yet")
        return Agreement(kind, 0, names, {}, nothing, nothing)
    table = _table(votes, names, kind)
    cohen = {pair: table.cohen(*map(names.index, pair)) for pair in combinations(names, 2)}
    given = sorted({tag for vote in votes for tag in vote.reasons}) if tags else []
    by_tag = {tag: _tag(votes, names, kind, tag) for tag in given}
    return Agreement(kind, table.items, names, cohen, table.fleiss(), table.krippendorff(), by_tag)


def said(vote: Vote, kind: str) -> list[int]:
    """Return what a vote says of each unit of its item, as indices of CATEGORIES."""
    categories = CATEGORIES[kind]
    if kind != "ranking":
        return [vote.chosen if vote.chosen is not None else categories.index(vote.verdict)]
    units = list(combinations(sorted(vote.shown), 2))
    if vote.ranking is None:
        return [categories.index(vote.verdict)] * len(units)
    tier = {position: number for number, tier in enumerate(vote.ranking) for position in tier}
    return [2 if tier[a] == tier[b] else int(tier[b] < tier[a]) for a, b in units]


def _table(votes: list[Vote], names: tuple[str, ...], kind: str) -> Table:
    return Table.of(((vote.item_id, vote.annotator, said(vote, kind)) for vote in votes), names, len(CATEGORIES[kind]))


def _tag(votes: list[Vote], names: tuple[str, ...], kind: str, tag: str) -> Tag:
    given = Table.of(((vote.item_id, vote.annotator, [int(tag in vote.reasons)]) for vote in votes), names, 2)
    items = {vote.item_id for vote in votes if tag in vote.reasons}
    answers = _table([vote for vote in votes if vote.item_id in items], names, kind)
    return Tag(sum(tag in vote.reasons for vote in votes), given.krippendorff(), answers.krippendorff())
