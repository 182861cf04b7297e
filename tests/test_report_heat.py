"""The heat map of tokens: colours that follow the numbers, numbers to read, and no token that becomes HTML."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.report_world import HOSTILE, finished_run

from errors import TrainingError, WorkerError
from report import heat

SPAN = re.compile(r'<span class="report-(up|down)" style="--depth:([\d.]+)" title="([^"]*)">(.*?)</span>', re.S)


def test_colours_follow_the_difference_and_titles_say_the_numbers() -> None:
    html = heat.render(["Hello", ",", " you"], [-1.0, -2.0, -5.0], [-3.0, -2.0, -1.0])
    assert SPAN.findall(html) == [
        ("up", "0.38", "+2.00 nats: −1.00 under the run, −3.00 under the base", "Hello"),
        ("up", "0.00", "+0.00 nats: −2.00 under the run, −2.00 under the base", ","),
        ("down", "0.75", "−4.00 nats: −5.00 under the run, −1.00 under the base", " you"),
    ]
    assert "2.00 nats less likely than under the base" in html and "under the run −8.00, under the base −6.00" in html
    assert "−4.00 nats</span>" in html and "+4.00 nats" in html


def test_differences_that_mean_nothing_stay_pale() -> None:
    html = heat.render(["a"] * 10, [-1.01] * 10, [-1.0] * 10)
    assert max(float(depth) for _, depth, _, _ in SPAN.findall(html)) < 0.03


def test_one_token_that_is_far_out_does_not_pale_the_others() -> None:
    apart = [1.0] * 99 + [50.0]
    html = heat.render(["a"] * 100, apart, [0.0] * 100)
    assert {depth for _, depth, _, _ in SPAN.findall(html)} == {"0.75"}


@given(st.lists(st.text(), min_size=1, max_size=20))
def test_whatever_a_token_is_it_stays_text(tokens: list[str]) -> None:
    tokens = [*tokens, HOSTILE]
    html = heat.render(tokens, [-1.0] * len(tokens), [-2.0] * len(tokens))
    assert len(SPAN.findall(html)) == len(tokens)
    assert not re.search(r"<(?!/?(figure|figcaption|span|small|div|i|p)\b)", html) and "${" not in html and "{{" not in html


def test_line_breaks_and_empty_tokens_are_seen() -> None:
    html = heat.render(["a\n\n", ""], [-1.0, -1.0], [-1.0, -1.0])
    assert [text for *_, text in SPAN.findall(html)] == ["a↵\n↵\n", "·"]


def test_figures_that_do_not_match_the_tokens_are_refused() -> None:
    with pytest.raises(WorkerError, match="do not match"):
        heat.render(["a", "b"], [-1.0], [-1.0, -1.0])
    assert "no tokens" in heat.render([], [], [])


@dataclass
class FakeEndpoint:
    """Stands where a worker is: answers as the contract says."""

    asked: list[dict] = field(default_factory=list)

    def token_logps(self, *, model: str, messages: list[dict[str, str]], response: str):
        self.asked.append({"model": model, "messages": messages, "response": response})
        tokens = list(response)
        return type("TokenLogps", (), {"tokens": tokens, "logps": [-1.0] * len(tokens), "base_logps": [-2.0] * len(tokens)})


def test_the_run_is_asked_by_its_name_about_the_answer_word_for_word(store, project) -> None:
    run, endpoint = finished_run(store, project, measured=False), FakeEndpoint()
    workers = type("Workers", (), {"endpoint": lambda self, model: endpoint})()
    html = heat.ask(workers, run, "Why?", " Because.\n")
    assert endpoint.asked == [{"model": "run-1", "messages": [{"role": "user", "content": "Why?"}], "response": " Because.\n"}]
    assert len(SPAN.findall(html)) == len(" Because.\n")
    for prompt, response in (("", "x"), (" ", "x"), ("x", "")):
        with pytest.raises(TrainingError, match="a question and an answer"):
            heat.ask(workers, run, prompt, response)
