"""What only a browser shows of the Train tab: curves that move, a reload mid-run, toasts, and hostile names.

The run is played by the test (it holds the run's lock and writes its metrics), so nothing here waits for training.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import fastapi
import gradio as gr
from tests.background_world import LivingProcess
from tests.browser import open_page, serve
from playwright.sync_api import Page, expect
from tests.training_world import label_pairs, leave_checkpoint

from models.client import Workers
from storage import Project, Store
from training import job, ordering, run, tab, view
from training.lock import ProcessLock

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=\"window.pwned=1\">${window.pwned=1}{{value}}"


@pytest.fixture
def address(store: Store, project: Project) -> Iterator[str]:
    label_pairs(store, project, 12)
    with gr.Blocks(analytics_enabled=False) as page:
        header = gr.Dropdown([(project.name, project.id)], label="Project")
        with gr.Tabs() as tabs:
            with gr.Tab("Label", id="label"):
                gr.Markdown("Labels are here.")
            with gr.Tab("Train", id="train") as own:
                tab.build(page, own, store, header, Workers(store.folder / "runs", "cpu"))

        def opened() -> tuple[int, gr.Tabs]:
            return project.id, gr.Tabs(selected="train")

        page.load(opened, None, [header, tabs], api_visibility="private", show_progress="hidden")
    app = gr.mount_gradio_app(
        fastapi.FastAPI(), page, path="/", css=tab.css(), head=tab.head(), footer_links=[], ssr_mode=False
    )
    with serve(app) as served:
        yield served


class Played:
    """A run whose process is this test."""

    def __init__(self, store: Store, project: Project, model: Path) -> None:
        self.store = store
        model.mkdir()
        (model / "config.json").write_text('{"hidden_size": 256}')
        self.run = job.create(store, project, view.configured(store, project.id, "dpo", str(model), {"steps": "20"}))
        self.lock = ProcessLock(store.runs.folder(self.run.id) / run.LOCK_NAME)
        assert self.lock.take()
        store.runs.start(self.run.id, os.getpid(), 20)
        self.say(f"Loading {HOSTILE}")

    def say(self, line: str) -> None:
        with (self.store.runs.folder(self.run.id) / run.LOG_NAME).open("a") as file:
            file.write(f"{line}\n")

    def step(self, number: int) -> None:
        figures = {"loss": 0.69 / number, "rewards/chosen": 0.1 * number, "rewards/rejected": -0.1 * number}
        figures |= {"rewards/margins": 0.2 * number, "rewards/accuracies": 1.0, "seconds": 1.0 * number}
        self.store.runs.add_metrics(self.run.id, number, figures)


def has_points(page: Page, number: int) -> None:
    """Wait until the loss curve has so many points."""
    curve = page.locator("#train-charts polyline").first
    expect(curve).to_have_attribute("points", re.compile(rf"^\S+( \S+){{{number - 1}}}$"))


def test_a_run_is_followed_through_a_reload_to_its_end(store, project, address, browser, tmp_path) -> None:
    played = Played(store, project, tmp_path / HOSTILE.replace("/", ""))
    played.step(1)
    played.step(2)
    with open_page(address, browser) as page:
        detail = page.locator("#train-live .train-detail")
        expect(detail).to_have_text("Step 2 of 20, about 18 s left")
        expect(page.locator("#train-start")).to_be_disabled()
        has_points(page, 2)
        played.step(3)
        expect(detail).to_have_text("Step 3 of 20, about 17 s left")
        has_points(page, 3)
        page.reload()
        expect(detail).to_have_text("Step 3 of 20, about 17 s left")
        played.step(4)
        expect(detail).to_contain_text("Step 4 of 20")
        page.locator("#train-cancel").click()
        expect(detail).to_contain_text("Stopping")
        assert store.runs.get(played.run.id).cancel_requested
        store.runs.end(played.run.id, "cancelled", "Cancelled after 4 steps.")
        played.lock.release()
        expect(detail).to_have_text("Cancelled after 4 steps.")
        expect(page.locator("#train-start")).to_be_enabled()
        expect(page.locator("#train-cancel")).to_have_count(0)
        expect(page.locator("#train-runs")).to_contain_text("cancelled")


def test_a_stopped_run_with_a_checkpoint_is_resumed_by_a_click(store, project, address, browser, tmp_path) -> None:
    played = Played(store, project, tmp_path / "model")
    played.step(1)
    with open_page(address, browser) as page:
        expect(page.locator("#train-live .train-detail")).to_contain_text("Step 1 of 20")
        expect(page.locator("#train-resume")).to_have_count(0)
        leave_checkpoint(store.runs.folder(played.run.id), 1)
        store.runs.end(played.run.id, "cancelled", "Cancelled after 1 of 20 steps; it can be resumed.")
        played.lock.release()
        expect(page.locator("#train-resume")).to_have_text("Resume from step 1 of 20")
        page.locator("#train-resume").click()
        expect(page.locator("#train-resume")).to_have_count(0)
        expect(page.locator("#train-live .train-detail")).to_contain_text("cannot be", timeout=120_000)  # no weights there
        assert store.runs.get(played.run.id).state == "failed"


def test_a_finished_run_orders_the_labelling_and_says_how_far_it_is(
    store, project, address, browser, tmp_path, monkeypatch
) -> None:
    played = Played(store, project, tmp_path / "model")
    store.runs.end(played.run.id, "finished", "Finished 20 steps.", adapter="runs/run-1/adapter")
    played.lock.release()
    process = LivingProcess()
    monkeypatch.setattr("training.background.launching.detached", lambda words, environment, log: process)
    lock = ordering.SCORING.lock(store, played.run.id)
    log = store.runs.folder(played.run.id) / ordering.SCORING.log_name()
    with open_page(address, browser) as page:
        scored, button = page.locator("#train-live .train-scored"), page.locator("#train-order")
        expect(button).to_have_text("Order the labelling by this run")
        expect(scored).to_be_hidden()
        button.click()
        expect(scored).to_have_text("The scoring is starting …")
        expect(button).to_have_count(0)
        assert lock.take()
        log.write_text("12:00:00 256 of 9,000 pairs scored …\n")
        expect(scored).to_have_text("256 of 9,000 pairs scored …")
        page.reload()
        expect(scored).to_have_text("256 of 9,000 pairs scored …")
        log.write_text(f"12:00:00 {HOSTILE}\n")
        lock.release()
        expect(scored).to_have_text(HOSTILE)
        expect(button).to_be_visible()
        assert page.evaluate("window.pwned") is None


def test_names_and_logs_stay_text(store, project, address, browser, tmp_path) -> None:
    played = Played(store, project, tmp_path / HOSTILE.replace("/", ""))
    played.step(1)
    with open_page(address, browser) as page:
        expect(page.locator("#train-live .train-headline")).to_contain_text("onerror")
        page.locator("#train-log-box button").first.click()
        expect(page.locator("#train-log pre")).to_have_text(f"Loading {HOSTILE}")
        store.runs.end(played.run.id, "failed", HOSTILE)
        played.lock.release()
        expect(page.locator("#train-live .train-detail")).to_have_text(HOSTILE)
        expect(page.locator("#train-runs")).to_contain_text("onerror")
        assert page.evaluate("window.pwned") is None


def test_what_is_wrong_is_told_in_a_toast_and_the_page_stays(store, project, address, browser) -> None:
    with open_page(address, browser) as page:
        expect(page.locator("#train-summary")).to_have_text("12 pairs; DPO suggested.")
        page.locator("#train-settings button").first.click()
        page.locator("#train-set-beta input").fill("-1")
        page.locator("#train-start").click()
        expect(page.get_by_text("beta must be more than 0, not -1")).to_be_visible()
        expect(page.locator("#train-live .train-headline")).to_have_text(view.NOTHING_YET)
        assert store.runs.list() == []


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_is_wider_than_the_screen(store, project, address, browser, tmp_path, width) -> None:
    played = Played(store, project, tmp_path / "model")
    played.step(1)
    with open_page(address, browser, width=width) as page:
        expect(page.locator("#train-charts polyline")).to_have_count(5)
        page.locator("#train-settings button").first.click()
        expect(page.locator("#train-set-seed")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    played.lock.release()
