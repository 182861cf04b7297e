"""The Report tab: what its callbacks return, and what only a browser shows of it: measuring, reloading, opening."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import fastapi
import gradio as gr
from playwright.sync_api import expect
from tests.background_world import LivingProcess
from tests.browser import open_page, serve
from tests.report_world import HOSTILE, finished_run, measured_run
from tests.test_report_heat import FakeEndpoint

from errors import WorkerError
from models.client import Workers
from report import job, tab
from report.measured import write
from storage import Project, Store
from training.lock import ProcessLock


class FakeWorkers(Workers):
    """Workers without processes: the endpoint answers at once."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.folder / "runs", "cpu")
        self.speaking = FakeEndpoint()
        self.refuses = ""

    def endpoint(self, model: str) -> FakeEndpoint:
        if self.refuses:
            raise WorkerError(self.refuses)
        return self.speaking


@pytest.fixture
def workers(store: Store) -> FakeWorkers:
    return FakeWorkers(store)


@pytest.fixture
def built(store: Store, workers: FakeWorkers) -> tab.ReportTab:
    made = tab.ReportTab(store, workers, lambda item_id: f"item {item_id}", ["nothing"])
    with gr.Blocks():
        project = gr.Dropdown([])
        made.opened = [gr.Textbox()]
        with gr.Tab("Report") as own:
            made.build(own, project)
    return made


def measuring(store: Store, run_id: int) -> ProcessLock:
    """Play the process that measures a run."""
    folder = store.runs.folder(run_id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / job.MEASURING.log_name()).write_text("12:00:00 Scoring 160 examples under the base and under the run …\n", encoding="utf-8")
    lock = job.MEASURING.lock(store, run_id)
    assert lock.take()
    return lock


def test_opening_chooses_the_newest_finished_run_and_keeps_what_was_chosen(built, store, project) -> None:
    assert "No run of this project has finished" in built.open(project.id, [])[1]
    first, second = finished_run(store, project), finished_run(store, project, measured=False)
    failed = store.runs.create(project.id, "dpo", "demo", {}, [])
    store.runs.end(failed.id, "failed", "x")
    runs, shown, *_ = built.open(project.id, [])
    assert [value for _, value in runs.choices] == [second.id, first.id] and runs.value == [second.id]
    assert "Press Measure" in shown
    kept = built.open(project.id, [first.id, 99])
    assert kept[0].value == [first.id] and "In short" in kept[1]
    assert built.follow(project.id, [], False) == gr.skip() and built.follow(project.id, [], True)[0].value == [second.id]
    assert built.open(None, [first.id])[0].value == []


def test_the_download_is_the_report_as_a_file(built, store, project) -> None:
    run = finished_run(store, project, text="Some answer.")
    download = built.show([run.id])[3]
    text = Path(download["value"]).read_text(encoding="utf-8")
    assert download["visible"] and text.startswith("<!doctype html>") and "Some answer." in text
    assert not built.show([])[3]["visible"] and "Choose a run above" in built.show([])[0]


def test_measure_takes_the_run_that_has_no_report_yet(built, store, project, monkeypatch) -> None:
    first, second = finished_run(store, project), finished_run(store, project, measured=False)
    started: list[list[str]] = []

    def detached(words, environment, log):
        started.append(words)
        return LivingProcess()

    monkeypatch.setattr("training.background.launching.detached", detached)
    assert built.show([first.id, second.id])[5].value == "Measure run 2"
    assert built.show([second.id])[5].value == "Measure" and built.show([first.id])[5].value == "Measure again"
    assert not built.show([])[5].interactive
    updates = built.start([first.id, second.id])
    assert started[0][1:] == ["-m", "report.measure", "--data", str(store.folder), "--run", "2", "--device", "cpu"]
    line, measure, stop, timer = updates[4:8]
    assert "The measuring is starting" in line and not measure.interactive and stop.visible and timer.active
    built.halt([first.id, second.id])
    assert job.MEASURING.stop_file(store, second.id).exists()


def test_a_tick_sends_the_report_only_when_it_is_new(built, store, project) -> None:
    run = finished_run(store, project, measured=False)
    lock = measuring(store, run.id)
    mark = built.show([run.id])[-1]
    quiet = built.tick([run.id], mark)
    assert quiet[:4] == [gr.skip()] * 4 and "Scoring 160 examples" in quiet[4] and quiet[7].active
    write(measured_run(run.id), store.runs.folder(run.id))
    lock.release()
    (store.runs.folder(run.id) / job.MEASURING.log_name()).write_text("12:00:09 Run 1 is measured: 60 examples and 5 prompts in 9 s.\n")
    told = built.tick([run.id], mark)
    assert "In short" in told[0] and "Run 1 is measured" in told[4] and not told[7].active and not told[6].visible


def test_contradicted_labels_are_listed_and_handed_over_by_item(built, store, project) -> None:
    run = finished_run(store, project)
    row, label = built.show([run.id])[1:3]
    assert row.visible and len(label.choices) == 30 and label.choices[0] == ("0.89 · item 1 · An answer. · Prompt 1 An answer.", 1)
    assert label.value == 1
    assert built.open_label(7) == "item 7" and built.open_label(None) == gr.skip()
    alone = tab.ReportTab(store, built.workers)
    with gr.Blocks(), gr.Tab("Report") as own:
        alone.build(own, gr.Dropdown([]))
    assert not alone.show([run.id])[1].visible


def test_tokens_are_compared_under_the_first_run(built, store, project, workers) -> None:
    run = finished_run(store, project, measured=False)
    assert "report-heat" in built.compare_tokens([run.id], "Why?", "So.")
    assert workers.speaking.asked[0]["model"] == "run-1"


def test_what_goes_wrong_is_a_toast(store, project, workers) -> None:
    toasts: list[str] = []
    made = tab.ReportTab(store, workers)
    guarded = tab.reported(toasts.append, gr.skip)
    compared = guarded(tab.ReportTab.compare_tokens.__wrapped__)
    workers.refuses = "The worker died."
    run = finished_run(store, project, measured=False)
    assert compared(made, [run.id], "Why?", "So.") == compared(made, [], "Why?", "So.") == gr.skip()
    assert guarded(tab.ReportTab.show.__wrapped__)(made, [99]) == gr.skip()
    assert toasts == ["The worker died.", "Choose a run first.", "There is no run number 99. `python app.py runs` lists them."]


def test_styles_are_found() -> None:
    assert "#report-root" in tab.css() and "<style>" in tab.head() and ".report-alone" in tab.head()


@pytest.fixture
def address(store: Store, project: Project, workers: FakeWorkers) -> Iterator[str]:
    with gr.Blocks(analytics_enabled=False) as page:
        header = gr.Dropdown([(project.name, project.id)], label="Project")
        opened = gr.Textbox(label="Opened")
        with gr.Tabs():
            with gr.Tab("Label", id="label"):
                gr.Markdown("Labels are here.")
            with gr.Tab("Report", id="report") as own:
                tab.build(page, own, store, header, workers, lambda item_id: f"item {item_id}", [opened])
        page.load(lambda: project.id, None, header, api_visibility="private", show_progress="hidden")
    app = gr.mount_gradio_app(
        fastapi.FastAPI(), page, path="/", css=tab.css(), head=tab.head(), footer_links=[], ssr_mode=False
    )
    with serve(app) as served:
        yield served


def enter(page) -> None:
    expect(page.get_by_label("Project")).to_have_value("Test project")
    page.get_by_role("tab", name="Report").click()


@pytest.mark.browser
@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_a_report_is_read_opened_and_downloaded_on_a_screen_and_on_a_phone(
    store, project, address, browser, tmp_path, width, height
) -> None:
    finished_run(store, project, text=f"A {HOSTILE}")
    finished_run(store, project, method="simpo")
    with open_page(address, browser, width=width, height=height) as page:
        enter(page)
        expect(page.locator("#report-shown h3").first).to_have_text("In short")
        page.locator("#report-runs input").click()
        page.get_by_role("option", name="Run 1 · DPO").click()
        expect(page.locator("#report-shown h2")).to_have_text(["Run 2 · SimPO", "Run 1 · DPO"])
        expect(page.locator("#report-shown table thead th")).to_have_count(3)
        page.keyboard.press("Escape")
        texts = page.locator("#report-shown .report-text").all_text_contents()
        assert f"Before 1. A {HOSTILE}" in texts
        assert page.evaluate("window.pwned") is None
        page.locator("#report-shown summary").first.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.locator("#report-open").click()
        expect(page.get_by_label("Opened")).to_have_value("item 1")
        with page.expect_download() as download:
            page.locator("#report-download").click()
        text = Path(download.value.path()).read_text(encoding="utf-8")
        assert download.value.suggested_filename == "report-run-2-1.html" and text.count("<h2>") == 2


@pytest.mark.browser
def test_measuring_is_followed_through_a_reload_to_the_report(store, project, address, browser) -> None:
    run = finished_run(store, project, measured=False)
    lock = measuring(store, run.id)
    with open_page(address, browser) as page:
        enter(page)
        expect(page.locator("#report-line")).to_contain_text("Scoring 160 examples")
        page.reload()
        enter(page)
        expect(page.locator("#report-stop")).to_be_visible()
        expect(page.locator("#report-measure")).to_be_disabled()
        write(measured_run(run.id), store.runs.folder(run.id))
        (store.runs.folder(run.id) / job.MEASURING.log_name()).write_text("12:00:09 Run 1 is measured: 60 examples.\n")
        lock.release()
        expect(page.locator("#report-shown h3").first).to_have_text("In short")
        expect(page.locator("#report-line")).to_contain_text("Run 1 is measured")
        expect(page.locator("#report-stop")).to_be_hidden()
        details = page.locator("#report-shown details").first
        details.locator("summary").click()
        page.wait_for_timeout(2500)  # longer than two ticks: an idle page must not be drawn anew
        expect(details).to_have_attribute("open", "")


@pytest.mark.browser
def test_tokens_are_coloured_and_hostile_ones_stay_text(store, project, address, browser) -> None:
    finished_run(store, project)
    with open_page(address, browser) as page:
        enter(page)
        page.get_by_text("Look inside one answer").click()
        page.get_by_label("Question").fill("Why?")
        page.get_by_label("Answer", exact=True).fill(HOSTILE)
        page.locator("#report-compare").click()
        expect(page.locator("#report-map .report-tokens")).to_have_text(HOSTILE)
        expect(page.locator("#report-map .report-tokens span").first).to_have_attribute("title", "+1.00 nats: −1.00 under the run, −2.00 under the base")
        told = page.locator("#report-map .report-told")
        page.locator("#report-map .report-tokens span").nth(1).click()
        expect(told).to_have_text("“i” +1.00 nats: −1.00 under the run, −2.00 under the base")
        page.keyboard.press("ArrowLeft")
        expect(told).to_contain_text("“<” +1.00 nats")
        page.keyboard.press("ArrowLeft")  # there is none before the first
        page.keyboard.press("Tab")
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("End")
        expect(told).to_contain_text(f"“{HOSTILE[-1]}” +1.00 nats")
        page.keyboard.press("Home")
        expect(told).to_contain_text("“<” +1.00 nats")
        assert page.evaluate("window.pwned") is None
        page.get_by_label("Answer", exact=True).fill("")
        page.get_by_label("Question").fill("User: Hi\nAssistant: Hello!")
        page.locator("#report-compare").click()
        expect(page.locator("#report-map .report-tokens")).to_have_text("Hello!")
        page.get_by_label("Question").fill("")
        page.locator("#report-compare").click()
        expect(page.get_by_text("Write a question and an answer first.")).to_be_visible()
