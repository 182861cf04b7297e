"""Strengths of models from who was preferred to whom, and how sure they are. Does not know where the votes come from.

Bradley and Terry (1952): the first is preferred with probability σ(s_first − s_second). A tie is half a win for each. The
strengths are in logits and their mean is 0. SciPy and NumPy are imported when something is computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Z_95 = 1.959963984540054
# A prior so weak that it only keeps a model that won every vote from being infinitely strong: N(0, 10²) logits.
PRIOR_PRECISION = 0.01
# Below so many votes a model that are no ties, or where somebody lost or won all, their spread cannot be read from them.
LEAST_FOR_SPREAD = 8


@dataclass(frozen=True)
class Outcome:
    """One vote between two players, by their numbers. score: 1 for the first, 0 for the second, ½ for a tie.

    vote: votes with the same number were one (the best of several): they are not independent.
    """

    first: int
    second: int
    score: float
    vote: int = -1


@dataclass(frozen=True)
class Strengths:
    """What was found. values: strengths [players] in logits, mean 0; covariance: of them [players, players]."""

    values: np.ndarray
    covariance: np.ndarray

    def interval(self, player: int) -> tuple[float, float]:
        """Return the 95% interval of one player's strength."""
        spread = Z_95 * math.sqrt(max(0.0, float(self.covariance[player, player])))
        return float(self.values[player]) - spread, float(self.values[player]) + spread

    def difference(self, player: int, other: int) -> tuple[float, float, float]:
        """Return how much stronger a player is than another, with the 95% interval."""
        between = self.covariance
        variance = between[player, player] + between[other, other] - 2 * between[player, other]
        value, spread = float(self.values[player] - self.values[other]), Z_95 * math.sqrt(max(0.0, float(variance)))
        return value, value - spread, value + spread


def components(outcomes: Sequence[Outcome], players: int) -> list[list[int]]:
    """Return groups of players that can be compared, by chains of votes, the largest first."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = [(each.first, each.second) for each in outcomes] or [(0, 0)]
    first, second = zip(*pairs)
    graph = coo_array(([1] * len(pairs), (first, second)), shape=(players, players))
    count, group_of = connected_components(graph, directed=False)
    groups = [[player for player in range(players) if group_of[player] == group] for group in range(count)]
    return sorted(groups, key=lambda group: (-len(group), group))


def fit(outcomes: Sequence[Outcome], players: int) -> Strengths:
    """Return the most probable strengths of players that are all connected by votes.

    The covariance is the sandwich estimate over votes, which is right with ties too (half wins spread less than whole
    ones). Where votes are few, or someone won or lost all, it is the inverse of the information, which is wider.
    """
    import numpy as np
    from scipy.optimize import minimize
    from scipy.special import expit

    first, second = (np.array([getattr(each, side) for each in outcomes], dtype=int) for side in ("first", "second"))
    score = np.array([each.score for each in outcomes], dtype=float)
    contrast = np.zeros((len(outcomes), players))
    contrast[np.arange(len(outcomes)), first] += 1.0
    contrast[np.arange(len(outcomes)), second] -= 1.0
    prior = PRIOR_PRECISION * np.eye(players)

    def loss(strengths: np.ndarray) -> tuple[float, np.ndarray]:
        gap = contrast @ strengths
        value = float(np.logaddexp(0.0, gap).sum() - score @ gap + strengths @ prior @ strengths / 2)
        return value, contrast.T @ (expit(gap) - score) + prior @ strengths

    def information(strengths: np.ndarray) -> np.ndarray:
        expected = expit(contrast @ strengths)
        return (contrast * (expected * (1 - expected))[:, None]).T @ contrast + prior

    found = minimize(loss, np.zeros(players), jac=True, hess=information, method="trust-exact", options={"gtol": 1e-8})
    values = found.x - found.x.mean()
    inverse = np.linalg.inv(information(values))
    covariance = inverse if _is_sparse(outcomes, players) else _sandwich(outcomes, contrast, expit(contrast @ values) - score, inverse)
    centred = np.eye(players) - 1.0 / players
    return Strengths(values, centred @ covariance @ centred)


def _sandwich(outcomes: Sequence[Outcome], contrast: np.ndarray, residual: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Return the covariance that follows from how the votes spread, those of one vote summed first (with HC1's factor)."""
    import numpy as np

    votes: dict[object, int] = {}
    place = [votes.setdefault(("own", row) if each.vote < 0 else each.vote, len(votes)) for row, each in enumerate(outcomes)]
    scores = np.zeros((len(votes), contrast.shape[1]))
    np.add.at(scores, place, contrast * residual[:, None])
    free = max(1, len(votes) - (contrast.shape[1] - 1))
    return inverse @ (scores.T @ scores) @ inverse * len(votes) / free


def _is_sparse(outcomes: Sequence[Outcome], players: int) -> bool:
    """Say whether some player has too few votes that are no ties, or won or lost all of them."""
    won, lost = [0] * players, [0] * players
    for each in outcomes:
        if each.score != 0.5:
            winner, loser = (each.first, each.second) if each.score > 0.5 else (each.second, each.first)
            won[winner] += 1
            lost[loser] += 1
    return any(not wins or not losses or wins + losses < LEAST_FOR_SPREAD for wins, losses in zip(won, lost))
