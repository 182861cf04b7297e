"""The ranking of models and runs: what was voted, what was left out, and what follows. Does not know the page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from arena import exclusions
from arena.bradley_terry import Outcome, components, fit
from storage import Store
from storage.comparisons import Comparison

NAMED = "a vote with the names shown"
POINTS_PER_LOGIT = 400 / math.log(10)
CENTRE = 1000.0
SCORES = {"first": 1.0, "second": 0.0, "tie": 0.5, "both_bad": 0.5}


@dataclass(frozen=True)
class Duel:
    """All votes between two models. wins, losses: of `model`; ties: both bad among them.

    rate: share of the votes it won, a tie as half, with Wilson's 95% interval. p_value: of the exact two-sided sign test,
    which looks at wins and losses only; None without any.
    """

    model: str
    other: str
    wins: int
    losses: int
    ties: int
    rate: float
    low: float
    high: float
    p_value: float | None

    @property
    def votes(self) -> int:
        """How many there are."""
        return self.wins + self.losses + self.ties


@dataclass(frozen=True)
class Rank:
    """One model in the ranking. rating: in Elo's points (400 are odds of ten to one), the mean of all is 1000, with its
    95% interval; all None for a model that cannot be compared with the others yet. votes: it took part in."""

    model: str
    votes: int
    rating: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Ranking:
    """All that the votes say. ranks: best first; duels: of each two that met, the better ranked first; excluded: votes
    that do not count, by reason."""

    ranks: list[Rank] = field(default_factory=list)
    duels: list[Duel] = field(default_factory=list)
    votes: int = 0
    excluded: Counter[str] = field(default_factory=Counter)


def ranking(store: Store, project_id: int | None = None, *, with_named: bool = False) -> Ranking:
    """Rank models by a project's votes, or by all.

    with_named: votes given with the models' names in sight count too.
    """
    bases = {f"run-{run.id}": run.model for run in store.runs.list()}
    return rank(store.comparisons.of_models(project_id), with_named=with_named, bases=bases)


def rank(
    comparisons: Iterable[Comparison], *, with_named: bool = False, bases: Mapping[str, str] = exclusions.UNKNOWN
) -> Ranking:
    """Rank models by comparisons. bases: of runs, the models they were trained from."""
    counted: list[Comparison] = []
    left_out: dict[str, set[tuple[str, int]]] = {}
    for each in comparisons:
        why = exclusions.reason(each, bases) or (None if each.is_blind or with_named else NAMED)
        if why:
            left_out.setdefault(why, set()).add((each.source, each.reference))
        else:
            counted.append(each)
    excluded = Counter({why: len(votes) for why, votes in left_out.items()})
    models = list(dict.fromkeys(side.model for each in counted for side in (each.first, each.second)))
    number = {model: place for place, model in enumerate(models)}
    votes: dict[tuple[str, int], int] = {}
    outcomes = [
        Outcome(
            number[each.first.model], number[each.second.model], SCORES[each.verdict],
            votes.setdefault((each.source, each.reference), len(votes)),
        )
        for each in counted
    ]
    ranks = _ranks(models, outcomes)
    order = {each.model: place for place, each in enumerate(ranks)}
    return Ranking(ranks, _duels(counted, order), len(votes), excluded)


def duel(model: str, other: str, wins: int, losses: int, ties: int) -> Duel:
    """Return what votes between two models say."""
    from scipy.stats import binomtest
    from statsmodels.stats.proportion import proportion_confint

    votes = wins + losses + ties
    won = wins + ties / 2
    low, high = proportion_confint(won, votes, alpha=0.05, method="wilson")
    p_value = float(binomtest(wins, wins + losses).pvalue) if wins + losses else None
    return Duel(model, other, wins, losses, ties, won / votes, float(low), float(high), p_value)


def _ranks(models: list[str], outcomes: list[Outcome]) -> list[Rank]:
    if not models:
        return []
    played = Counter(player for _, player in {(each.vote, side) for each in outcomes for side in (each.first, each.second)})
    largest, *others = components(outcomes, len(models))
    place = {player: number for number, player in enumerate(largest)}
    inside = [
        Outcome(place[each.first], place[each.second], each.score, each.vote) for each in outcomes if each.first in place
    ]
    strengths = fit(inside, len(largest))
    ranks = []
    for player in largest:
        value, (low, high) = float(strengths.values[place[player]]), strengths.interval(place[player])
        points = [CENTRE + POINTS_PER_LOGIT * each for each in (value, low, high)]
        ranks.append(Rank(models[player], played[player], *points))
    ranks.sort(key=lambda each: -(each.rating or 0.0))
    return ranks + [Rank(models[player], played[player]) for group in others for player in group]


def _duels(counted: list[Comparison], order: dict[str, int]) -> list[Duel]:
    tallies: dict[tuple[str, str], Counter[str]] = {}
    for each in counted:
        names = each.first.model, each.second.model
        swapped = order[names[0]] > order[names[1]]
        said = "tie" if SCORES[each.verdict] == 0.5 else "win" if (each.verdict == "first") != swapped else "loss"
        tallies.setdefault(names[::-1] if swapped else names, Counter())[said] += 1
    ordered = sorted(tallies.items(), key=lambda entry: (order[entry[0][0]], order[entry[0][1]]))
    return [duel(*names, tally["win"], tally["loss"], tally["tie"]) for names, tally in ordered]
