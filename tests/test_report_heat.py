"""The heat map of tokens: colours that follow the numbers, numbers to read, and no token that becomes HTML."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.report_world import HOSTILE, finished_run

from errors import WorkerError
from report import heat
from training.losses import LOSSES, PairedLogps, UnpairedLogps
from training.methods import METHODS, DPOConfig, IPOConfig, MethodConfig

SPAN = re.compile(r'<span class="report-(up|down)" style="--depth:([\d.]+)" title="([^"]*)" tabindex="(?:0|-1)">(.*?)</span>', re.S)


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
    assert not re.search(r"<(?!/?(figure|figcaption|span|small|div|i|p|table|thead|tbody|tr|th|td)\b)", html) and "${" not in html and "{{" not in html


def test_line_breaks_and_empty_tokens_are_seen() -> None:
    html = heat.render(["a\n\n", ""], [-1.0, -1.0], [-1.0, -1.0])
    assert [text for *_, text in SPAN.findall(html)] == ["a↵\n↵\n", "·"]


def test_the_tokens_that_rose_and_fell_most_are_listed_with_their_numbers() -> None:
    tokens = list("abcdefgh")
    html = heat.render(tokens, [float(-place) for place in range(8)], [-3.0] * 8)
    rose, fell = re.findall("<table>(.*?)</table>", html)
    rows = re.compile('<tr><td class="report-piece">(.*?)</td><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td></tr>')
    assert rows.findall(rose) == [("a", "+3.00", "0.00", "−3.00"), ("b", "+2.00", "−1.00", "−3.00"), ("c", "+1.00", "−2.00", "−3.00")]
    assert [row[:2] for row in rows.findall(fell)] == [("h", "−4.00"), ("g", "−3.00"), ("f", "−2.00"), ("e", "−1.00")]
    assert "<table>" not in heat.render(["a"], [-1.0], [-1.0])
    many = heat.render(["a"] * 40, [-1.0] * 40, [-2.0] * 40)
    assert len(rows.findall(many)) == heat.MOST_LISTED


def test_all_tokens_are_one_stop_of_the_tab_key() -> None:
    assert re.findall('tabindex="(.*?)"', heat.render(["a", "b", "c"], [-1.0] * 3, [-1.0] * 3)) == ["0", "-1", "-1"]


@pytest.mark.parametrize("loss", [*(config() for config in METHODS.values()), IPOConfig(form="mean"), DPOConfig(beta=0.5)])
def test_the_reward_of_an_answer_is_what_the_runs_own_loss_calls_so(loss: MethodConfig) -> None:
    logps, base_logps = [-1.0, -0.5, -2.5], [-2.0, -1.0, -0.25]
    own, base, length = torch.tensor([sum(logps)]), torch.tensor([sum(base_logps)]), torch.tensor([3.0])
    if loss.paired:
        references = [base, base] if loss.needs_reference else []
        expected = LOSSES[loss.name](PairedLogps(own, own, length, length, *references), loss).chosen_rewards
    else:
        asked = UnpairedLogps(own, base, torch.tensor([True]), torch.tensor(0.0))
        expected = LOSSES[loss.name](asked, loss).chosen_rewards
    assert heat.reward(loss, logps, base_logps) == pytest.approx(expected.item())
    said = heat.render(["a", "b", "c"], logps, base_logps, loss)
    assert f"implicit reward {expected.item():+.2f} (β {loss.beta:g})".replace("-", "−") in said
    assert "implicit reward" not in heat.render(["a", "b", "c"], logps, base_logps)


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
    assert "implicit reward +1.00 (β 0.1)" in html
    heat.ask(workers, run, "User: Why?\nAssistant: Because.\nUser: And?", "So.")
    assert [message["content"] for message in endpoint.asked[1]["messages"]] == ["Why?", "Because.", "And?"]


def test_a_run_of_another_version_has_its_tokens_without_a_reward(store, project) -> None:
    run = replace(finished_run(store, project, measured=False), config={"method": "gone"})
    workers = type("Workers", (), {"endpoint": lambda self, model: FakeEndpoint()})()
    html = heat.ask(workers, run, "Why?", "So.")
    assert len(SPAN.findall(html)) == 3 and "implicit reward" not in html
