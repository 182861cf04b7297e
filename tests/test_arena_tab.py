"""The Arena tab in a real browser: a match from its start to the ranking, wrong input, and the next round."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import pytest
from playwright.sync_api import Page, expect

import app
from storage import Project, Store
from tests.arena_world import Workers, compared, finished, server, trained_at_once, world
from tests.browser import open_page, serve
from tests.completion_server import CompletionServer
from transfer.jobs import Jobs

__all__ = ["server", "trained_at_once"]  # fixtures

pytestmark = pytest.mark.browser
CARD = '#label-page [data-state="card"][data-ready="yes"]'  # that takes keys


class PageWorkers(Workers):
    """What the page asks of workers besides what a round asks."""

    def state(self, model: str) -> str:
        return "ready"

    def stop(self, model: str | None = None) -> None:
        pass


@contextmanager
def opened(store: Store, server: CompletionServer, browser, **size: int) -> Iterator[Page]:  # noqa: ANN001
    """Serve the whole page and open its Arena tab."""
    with serve(app.create_app(store, PageWorkers(server), Jobs())) as address, open_page(address, browser, **size) as page:
        page.get_by_role("tab", name="Arena").click()
        expect(page.locator("#arena-ranking")).to_contain_text("votes counted")
        yield page


def test_a_match_is_played_voted_through_with_keys_and_ranked(
    store: Store, project: Project, server: CompletionServer, browser  # noqa: ANN001
) -> None:
    run = finished(store, project)
    with opened(store, server, browser) as page:
        expect(page.locator("#arena-second input")).to_have_value(f"Run {run.id} · DPO")
        page.get_by_label("Written here").check()
        page.locator("#arena-text textarea").fill("\n".join(f"Question {number}?" for number in range(4)))
        page.locator("#arena-start").click()
        expect(page.locator("#arena-said")).to_contain_text("4 pairs of 4 prompts wait for votes")
        page.locator("#arena-vote").click()
        expect(page.get_by_role("tab", name="Label")).to_have_attribute("aria-selected", "true")
        match = next(each for each in store.projects.list() if each.name.startswith("Arena"))
        for number in range(4):
            expect(page.locator(CARD)).to_be_visible()
            expect(page.locator("#label-prompt")).to_contain_text("Question")
            card = page.locator("#label-a")
            expect(card).to_contain_text(" on Question")
            said = card.inner_text()
            assert "DPO" not in page.locator("#label-page").inner_text()
            page.keyboard.press("1" if said.startswith("run-") else "2")
            if number < 3:
                expect(card).not_to_have_text(said)
        for _ in range(600):
            if store.labels.counts(match.id) == {"chosen": 4}:
                break
            page.wait_for_timeout(50)
        assert store.labels.counts(match.id) == {"chosen": 4}
        page.get_by_role("tab", name="Arena").click()
        expect(page.locator("#arena-ranking .arena-ranks tbody tr").first).to_contain_text(f"Run {run.id} · DPO")
        expect(page.locator("#arena-ranking .arena-duels")).to_contain_text("4 : 0")
        expect(page.locator("#arena-ranking")).to_contain_text("4 votes counted")


def test_wrong_input_is_a_sentence(store: Store, project: Project, server: CompletionServer, browser) -> None:  # noqa: ANN001
    with opened(store, server, browser) as page:
        expect(page.locator("#arena-ranking")).to_contain_text("Nothing to rank yet")
        page.locator("#arena-start").click()
        expect(page.get_by_text("Choose two different models")).to_be_visible()
        expect(page.locator("#arena-go")).to_be_disabled()
        expect(page.locator("#arena-standing")).to_contain_text("Train one on the Train tab: it is round 1")


def test_one_click_samples_waits_for_labels_trains_and_compares(
    store: Store, project: Project, server: CompletionServer, browser, trained_at_once: None  # noqa: ANN001
) -> None:
    run = world(store, project)
    compared(store, f"run-{run.id}", "base:demo", 9)
    with opened(store, server, browser) as page:
        expect(page.locator("#arena-rounds-table")).to_contain_text("100% (70% to 100%, 9 votes)")
        expect(page.locator("#arena-standing")).to_contain_text(f"Run {run.id} is the one to go on from")
        page.locator("#arena-asked input[type=number]").fill("3")
        page.locator("#arena-asked input[type=number]").blur()
        page.locator("#arena-go").click()
        expect(page.locator("#arena-standing")).to_contain_text("0 of 3 pairs are done")
        page.reload()
        page.get_by_role("tab", name="Arena").click()
        expect(page.locator("#arena-rounds-table")).to_contain_text("9 votes")  # also while a round is at work
        expect(page.locator(".arena-steps .now")).to_have_text("Label")
        page.locator("#arena-label").click()
        for number in range(3):
            expect(page.locator(CARD)).to_be_visible()
            card = page.locator("#label-a")
            expect(card).to_contain_text(f"run-{run.id} on Q")
            said = card.inner_text()
            page.keyboard.press("1")
            if number < 2:
                expect(card).not_to_have_text(said)
        page.get_by_role("tab", name="Arena").click()
        expect(page.locator("#arena-standing")).to_contain_text("6 pairs of the last comparison wait", timeout=20_000)
        expect(page.locator("#arena-rounds-table")).to_contain_text("run 1")
        assert store.runs.list(project.id)[0].config["start_run"] == run.id
        page.locator("#arena-vote-round").click()
        expect(page.get_by_role("tab", name="Label")).to_have_attribute("aria-selected", "true")
        match = store.projects.list()[-1]
        assert match.is_match and store.items.counts(match.id)["pair"]["total"] == 6
        for number in range(1, 7):
            expect(page.locator(CARD)).to_be_visible()
            page.keyboard.press("1")
            for _ in range(600):
                if sum(store.labels.counts(match.id).values()) == number:
                    break
                page.wait_for_timeout(50)
            assert sum(store.labels.counts(match.id).values()) == number
        page.get_by_role("button", name="See the ranking").click()
        expect(page.get_by_role("tab", name="Arena")).to_have_attribute("aria-selected", "true")
        expect(page.locator("#arena-standing")).not_to_contain_text("wait for votes")
        expect(page.locator("#arena-rounds-table")).to_contain_text("3 votes), run 1")  # the rounds of the project it was played for
