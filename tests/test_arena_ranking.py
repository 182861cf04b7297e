"""The ranking: strengths against simulated voters, win rates, sign tests, and what is left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit

from arena import exclusions
from arena.bradley_terry import Outcome, components, fit
from arena import view
from arena.ranking import Rank, Ranking, duel, rank
from benchmarks.ranking import coverage, simulated
from storage.comparisons import Compared, Comparison

REPEATS = 300


@pytest.mark.parametrize(("votes", "tie_share"), [(120, 0.0), (120, 0.4), (600, 0.4)])
def test_intervals_cover_the_true_strengths_of_simulated_voters(votes: int, tie_share: float) -> None:
    found = coverage(votes, tie_share, REPEATS)
    # So many repeats of 4 strengths: the standard error of the share is about two thirds of a percent.
    assert 0.93 <= found["strengths"] <= 0.97
    assert 0.93 - 0.015 <= found["difference"] <= 0.97 + 0.015


def test_two_players_have_the_log_odds_of_their_wins() -> None:
    found = fit([Outcome(0, 1, 1.0)] * 300 + [Outcome(1, 0, 1.0)] * 100, 2)
    assert found.difference(0, 1)[0] == pytest.approx(math.log(3), abs=0.005)
    # Of the log odds: 1/300 + 1/100.
    low, high = found.difference(0, 1)[1:]
    assert (high - low) / 2 / 1.96 == pytest.approx(math.sqrt(1 / 300 + 1 / 100), rel=0.01)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 5))
def test_strengths_are_the_maximum_of_the_likelihood(seed: int, players: int) -> None:
    rng = np.random.default_rng(seed)
    outcomes = simulated(rng.normal(size=players), 200, 0.2, rng)
    assume(len(components(outcomes, players)) == 1)

    def loss(s: np.ndarray) -> float:
        gaps = np.array([s[each.first] - s[each.second] for each in outcomes])
        scores = np.array([each.score for each in outcomes])
        return float(-(scores * np.log(expit(gaps)) + (1 - scores) * np.log(expit(-gaps))).sum() + 0.005 * s @ s)

    oracle = minimize(loss, np.zeros(players), method="BFGS", options={"gtol": 1e-7}).x
    assert fit(outcomes, players).values == pytest.approx(oracle - oracle.mean(), abs=2e-3)


def test_a_model_that_won_every_vote_has_a_wide_interval_and_no_infinity() -> None:
    low, high = fit([Outcome(0, 1, 1.0)] * 12, 2).interval(0)
    assert math.isfinite(high) and low < 1.0 < high and high - low > 2


def test_ties_alone_leave_an_interval_that_narrows_with_their_number() -> None:
    width = [high - low for low, high in (fit([Outcome(0, 1, 0.5)] * ties, 2).interval(0) for ties in (3, 30, 300))]
    assert width[0] > width[1] > width[2] > 0.1
    few = [Outcome(0, 1, 0.5)] * 9 + [Outcome(0, 1, 1.0)]
    assert fit(few, 2).interval(0)[0] < 0  # one win among ten is no proof


def test_models_that_never_met_are_not_compared() -> None:
    outcomes = [Outcome(0, 1, 1.0), Outcome(1, 2, 0.5), Outcome(3, 4, 1.0)]
    assert components(outcomes, 6) == [[0, 1, 2], [3, 4], [5]]


def test_the_best_of_several_is_one_vote() -> None:
    """Copies of a vote narrow nothing when they are known to be one."""
    rng = np.random.default_rng(0)
    alone = simulated(np.array([0.5, -0.5]), 200, 0.0, rng)
    numbered = [Outcome(each.first, each.second, each.score, vote) for vote, each in enumerate(alone)]
    thrice = [each for each in numbered for _ in range(3)]
    width = [high - low for low, high in (fit(each, 2).interval(0) for each in (numbered, thrice))]
    assert width[1] == pytest.approx(width[0], rel=0.02)


@pytest.mark.parametrize(
    ("wins", "losses", "ties", "rate", "low", "high", "p_value"),
    # Wilson's interval of 15/20 and of 5/10; the sign tests of 15:5 and 5:5 by summing binomials.
    [(15, 5, 0, 0.75, 0.5313, 0.8881, 0.0414), (0, 0, 10, 0.5, 0.2366, 0.7634, None), (5, 5, 0, 0.5, 0.2366, 0.7634, 1.0)],
)
def test_a_duel_has_wilsons_interval_and_the_exact_sign_test(wins, losses, ties, rate, low, high, p_value) -> None:  # noqa: ANN001
    found = duel("a", "b", wins, losses, ties)
    assert (found.rate, found.low, found.high) == pytest.approx((rate, low, high), abs=1e-3)
    assert found.p_value == (None if p_value is None else pytest.approx(p_value, abs=1e-3))


def compared(
    first: str = "base:demo", second: str = "run-1", verdict: str = "first", blind: bool = True,
    texts: tuple[str, str] = ("Yes.", "No."), ends: tuple = ("stop", "stop"), reference: int = 1,
) -> Comparison:
    sides = [Compared(*each) for each in zip((first, second), texts, ends)]
    return Comparison(*sides, verdict, "ann", blind, "chat", reference, 0.0)


@pytest.mark.parametrize(
    ("comparison", "why"),
    [
        (compared(second="base:demo"), exclusions.SAME_MODEL),
        (compared(texts=(" ", "No.")), exclusions.EMPTY),
        (compared(ends=("stop", "length")), exclusions.UNFINISHED),
        (compared(ends=("stopped", "stop")), exclusions.UNFINISHED),
        (compared(texts=("Hello! I am Qwen, a model by Alibaba.", "No.")), exclusions.NAMES_ITSELF),
        (compared(texts=("Ok", "I'm a large language model called run-1.")), exclusions.NAMES_ITSELF),
        (compared(texts=("你好，我是由深度求索开发的助手。", "No.")), exclusions.NAMES_ITSELF),
        (compared("base:org/Zephyr-7b", texts=("My name is Zephyr-7b!", "No.")), exclusions.NAMES_ITSELF),
        (compared(texts=("I am fine. Llama wool is warm.", "The GPT was made in 2018.")), None),
        (compared(texts=("I'm a demo of politeness.", "我是你的朋友。")), None),
        (compared(ends=(None, None)), None),
        (compared(texts=("I'm interested in philosophy, and I am from Philadelphia.", "I am fond of llamas.")), None),
        (compared(texts=("I am learning about the falcon.", "I am going to run 10 km.")), None),
        (compared(texts=("I will tell you: run-1 is a name.", "I am called run-12.")), None),
        (compared(texts=("我是由阿里云开发的大模型。", "No.")), exclusions.NAMES_ITSELF),
        (compared(texts=("我是Qwen2.5。", "No.")), exclusions.NAMES_ITSELF),
        (compared(texts=("I was made by Meta.", "No.")), exclusions.NAMES_ITSELF),
        (compared(texts=("As Qwen, I cannot do that.", "No.")), exclusions.NAMES_ITSELF),
        (compared(texts=("I am an AI assistant developed by the DeepSeek team.", "No.")), exclusions.NAMES_ITSELF),
    ],
)
def test_votes_that_say_nothing_about_the_models_are_left_out(comparison: Comparison, why: str | None) -> None:
    assert exclusions.reason(comparison) == why


def test_a_ranking_counts_what_it_leaves_out_and_names_the_better_first() -> None:
    votes = [compared(verdict="second", reference=number) for number in range(30)]
    votes += [compared(verdict=said, reference=100 + number) for number, said in enumerate(["first"] * 8 + ["tie", "both_bad"])]
    votes += [compared(blind=False, reference=500), compared(texts=("", ""), reference=501)]
    found = rank(votes)
    assert [each.model for each in found.ranks] == ["run-1", "base:demo"]
    assert found.votes == 40 and dict(found.excluded) == {"a vote with the names shown": 1, exclusions.EMPTY: 1}
    (only,) = found.duels
    assert (only.model, only.wins, only.losses, only.ties, only.rate) == ("run-1", 30, 8, 2, 0.775)
    assert found.ranks[0].low < found.ranks[0].rating < found.ranks[0].high
    assert sum(each.rating for each in found.ranks) == pytest.approx(2000)
    assert rank(votes, with_named=True).votes == 41
    assert rank([]).ranks == []


def test_a_vote_for_the_best_of_several_counts_once() -> None:
    votes = [compared("run-1", other, reference=1) for other in ("run-2", "run-3", "run-4")]
    votes += [compared("run-1", other, texts=("", ""), reference=2) for other in ("run-2", "run-3", "run-4")]
    found = rank(votes)
    assert (found.votes, dict(found.excluded)) == (1, {exclusions.EMPTY: 1})
    assert {each.votes for each in found.ranks} == {1}


def test_models_outside_the_main_group_are_listed_without_a_rating() -> None:
    votes = [compared(reference=1), compared("run-1", "run-2", reference=2), compared("run-8", "run-9", reference=3)]
    ratings = {each.model: each.rating for each in rank(votes).ranks}
    assert ratings["run-8"] is None and ratings["run-9"] is None and ratings["base:demo"] is not None


def test_one_vote_is_said_as_one() -> None:
    shown = view.ranking_html(Ranking([Rank("a", 1, 1300, 900, 1700), Rank("b", 1, 700, 300, 1100)], [duel("a", "b", 1, 0, 0)], 1), {})
    assert "1 vote counted." in shown and "100%, 1 vote)" in shown and "1 votes" not in shown
