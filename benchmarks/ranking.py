"""How often the ranking's intervals hold the true strengths of simulated voters, and how long a ranking takes.

Run: `python -m benchmarks.ranking [--repeats 2000]`. Prints one JSON object. Four models of known strengths; each vote is
between two of them, drawn by Bradley and Terry's law, with a share of ties that leaves the mean score as it is.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from scipy.special import expit

from arena.bradley_terry import Outcome, fit

STRENGTHS = (0.9, 0.3, -0.2, -1.0)


def simulated(truth: np.ndarray, votes: int, tie_share: float, rng: np.random.Generator) -> list[Outcome]:
    """Return votes of voters who know the truth: E[score] = σ(s_first − s_second), and a share of ties around even."""
    outcomes = []
    for _ in range(votes):
        first, second = rng.choice(len(truth), 2, replace=False)
        chance = expit(truth[first] - truth[second])
        tie = tie_share * 2 * min(chance, 1 - chance)  # taken in equal parts from both, so the mean score stays
        drawn = rng.random()
        score = 0.5 if drawn < tie else float(drawn < tie + chance - tie / 2)
        outcomes.append(Outcome(int(first), int(second), score))
    return outcomes


def coverage(votes: int, tie_share: float, repeats: int) -> dict[str, float]:
    """Return the share of intervals that hold the truth: of single strengths, and of the best against the worst."""
    rng = np.random.default_rng(votes + int(10 * tie_share))
    truth = np.array(STRENGTHS)
    single, apart, seconds = [], [], 0.0
    for _ in range(repeats):
        outcomes = simulated(truth, votes, tie_share, rng)
        started = time.perf_counter()
        found = fit(outcomes, len(truth))
        seconds += time.perf_counter() - started
        single += [low <= value <= high for value, (low, high) in zip(truth, map(found.interval, range(len(truth))))]
        _, low, high = found.difference(0, len(truth) - 1)
        apart.append(low <= truth[0] - truth[-1] <= high)
    return {
        "votes": votes, "tie_share": tie_share, "strengths": float(np.mean(single)), "difference": float(np.mean(apart)),
        "milliseconds": 1000 * seconds / repeats,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranking", description=__doc__)
    parser.add_argument("--repeats", type=int, default=2000)
    repeats = parser.parse_args().repeats
    cases = [coverage(votes, ties, repeats) for votes in (60, 120, 600) for ties in (0.0, 0.4)]
    print(json.dumps({"repeats": repeats, "cases": cases}))


if __name__ == "__main__":
    main()
