"""How each annotator labels: sides, checks, repeats, speed; and whether the order of a run found more than chance.

Nothing here drops or changes a label. Does not know agreement between people (`agreement`), nor a page.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from statistics import median

from labeling.settings import BY_A_RUN, LabelingSettings
from storage import Store
from storage.records import FINAL, REPEAT, VOTE
from storage.votes import Vote

COVERED = 0.95


@dataclass(frozen=True)
class Share:
    """A share of labels with its Wilson interval; value, low and high are None where there is nothing to divide by."""

    hits: int = 0
    of: int = 0
    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class AnnotatorFigures:
    """One annotator's current votes; those on checks count in `checks` only.

    left: of the choices between two responses made on this page, those of the one shown left. checks: answers to
    checks that are the known ones. repeats: second answers that are the first. fast: labels given in less active time
    than the project's `fast_seconds`. median_seconds: active time of a label, None when none was measured.
    """

    name: str
    labels: int
    left: Share
    checks: Share
    repeats: Share
    fast: int
    median_seconds: float | None


@dataclass(frozen=True)
class Order:
    """Of the labels whose item was picked so, and had a margin then: those that contradict the run's preference."""

    picked: str
    contradicted: Share


@dataclass(frozen=True)
class Figures:
    """All annotators of a project by name, and how the order of a run did; no orders when no run scored the project."""

    annotators: tuple[AnnotatorFigures, ...]
    orders: tuple[Order, ...]


def figures(store: Store, project_id: int) -> Figures:
    """Return the figures of a project's annotators, over all kinds of items. Raises NotFoundError."""
    fast_seconds = LabelingSettings.of(store.projects.by_id(project_id).labeling).fast_seconds
    finals: dict[int, Vote] = {}
    votes: dict[str, dict[int, Vote]] = defaultdict(dict)
    repeats: dict[str, list[Vote]] = defaultdict(list)
    for vote in store.votes.of_project(project_id):
        if vote.role == VOTE:
            votes[vote.annotator][vote.item_id] = vote
        elif vote.role == REPEAT:
            repeats[vote.annotator].append(vote)
        elif vote.role == FINAL:
            finals[vote.item_id] = vote
    rows = [_annotator(name, votes[name], repeats[name], finals, fast_seconds) for name in sorted(votes)]
    return Figures(tuple(rows), _orders([vote for own in votes.values() for vote in own.values()]))


def share(hits: int, of: int) -> Share:
    """Return hits / of with its 95% interval (Wilson 1927)."""
    if not of:
        return Share()
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(hits, of, alpha=1 - COVERED, method="wilson")
    return Share(hits, of, hits / of, float(low), float(high))


def _annotator(
    name: str, votes: dict[int, Vote], repeats: list[Vote], finals: dict[int, Vote], fast_seconds: float
) -> AnnotatorFigures:
    work = [vote for vote in votes.values() if not vote.is_check]
    known = [(vote, finals[item_id]) for item_id, vote in votes.items() if vote.is_check and item_id in finals]
    again = [(vote, votes[vote.item_id]) for vote in repeats if vote.item_id in votes]
    # Where an imported file had its sides says nothing of a person's eyes.
    sides = [vote.chosen == vote.shown[0] for vote in work if vote.chosen is not None and vote.source != "import"]
    seconds = [vote.active_seconds for vote in work if vote.source == "person" and vote.active_seconds is not None]
    return AnnotatorFigures(
        name, len(work), share(sum(sides), len(sides)), _same(known), _same(again),
        sum(each < fast_seconds for each in seconds), median(seconds) if seconds else None,
    )


def _same(pairs: list[tuple[Vote, Vote]]) -> Share:
    return share(sum(one.choice == other.choice for one, other in pairs), len(pairs))


def _orders(votes: list[Vote]) -> tuple[Order, ...]:
    """Return, for each way of picking, how often the label contradicts the sign of the margin (> 0: the first)."""
    scored, contradicting = Counter(), Counter()
    for vote in votes:
        if vote.margin and vote.chosen is not None and not vote.is_check:
            scored[vote.picked] += 1
            contradicting[vote.picked] += (vote.chosen == 0) != (vote.margin > 0)
    picked = [way for way in BY_A_RUN if scored[way]]
    return tuple(Order(way, share(contradicting[way], scored[way])) for way in (*picked, *(["shuffled"] if picked else [])))
