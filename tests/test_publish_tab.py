"""The Publish tab in a real browser: the adapter downloaded, a run merged, commands copied, what is wrong in a toast."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import fastapi
import gradio as gr
import pytest
from playwright.sync_api import Page, expect
from tests.background_world import LivingProcess
from tests.browser import open_page, serve
from tests.publish_world import GREEDY, elsewhere, finished_run
from tests.tiny_models import save_tiny_model

from models.client import Workers
from publish import hub, merging, tab, view
from storage import Run, Store

pytestmark = pytest.mark.browser
HOSTILE = "x `y` ```z <img src=x onerror=window.pwned=1> $e$"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Run]]:
    """A store whose data folder and model have names that want to be more than text, and one finished run."""
    folder = tmp_path_factory.mktemp("publish")
    store = Store(folder / HOSTILE / "data")
    yield store, finished_run(store, str(save_tiny_model(folder / HOSTILE / "model")), steps=2)
    store.close()


@pytest.fixture(scope="module")
def address(world: tuple[Store, Run]) -> Iterator[str]:
    store = world[0]
    other = store.projects.ensure("Nothing trained")
    with gr.Blocks(analytics_enabled=False) as page:
        header = gr.Dropdown(
            [("Trained", world[1].project_id), (other.name, other.id)], label="Project", elem_id="project", filterable=False
        )
        with gr.Tabs():
            with gr.Tab("Label", id="label"):
                gr.Markdown("Labels are here.")
            with gr.Tab("Publish", id="publish") as own:
                tab.build(page, own, store, header, Workers(store.folder / "runs", "cpu"))
        page.load(lambda: world[1].project_id, None, header, api_visibility="private", show_progress="hidden")
    app = gr.mount_gradio_app(
        fastapi.FastAPI(), page, path="/", css=tab.css(), head=tab.head(), footer_links=[], ssr_mode=False
    )
    with serve(app) as served:
        yield served


def go(page: Page) -> None:
    """Choose the tab and wait until it shows the run."""
    page.get_by_role("tab", name="Publish").click()
    expect(page.locator("#publish-pack")).to_be_enabled()


def downloaded(page: Page, button: str, folder: Path) -> Path:
    """Download a file and unzip it; return the folder that was in it."""
    with page.expect_download() as download:
        page.locator(button).click()
    with zipfile.ZipFile(download.value.path()) as zipped:
        zipped.extractall(folder)
    return folder / download.value.suggested_filename.removesuffix(".zip")


def test_the_adapter_is_downloaded_whole(world: tuple[Store, Run], address: str, browser, tmp_path: Path) -> None:
    store, run = world
    with open_page(address, browser) as page:
        go(page)
        expect(page.locator("#publish-about p")).to_contain_text("DPO on model. Finished 2 steps")
        expect(page.locator("#publish-download")).to_be_disabled()
        page.locator("#publish-pack").click()
        expect(page.locator("#publish-download")).to_contain_text("Download run-1-adapter.zip")
        folder = downloaded(page, "#publish-download", tmp_path)
    assert folder.name == "run-1-adapter"
    kept = store.runs.adapter_folder(run.id) / "adapter_model.safetensors"
    assert (folder / kept.name).read_bytes() == kept.read_bytes()
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "model"
    assert "folder called `model`" in (folder / "README.md").read_text()


def test_a_run_is_merged_followed_through_a_reload_and_downloaded(world, address: str, browser, tmp_path: Path) -> None:
    store, run = world
    with open_page(address, browser) as page:
        go(page)
        expect(page.locator("#publish-commands")).to_contain_text("--enable-lora")
        expect(page.locator("#publish-pack-merged")).to_have_count(0)
        page.locator("#publish-merge").click()
        expect(page.locator("#publish-merge-line p")).to_contain_text("…")
        expect(page.locator("#publish-merge")).to_be_disabled()
        page.reload()
        go(page)
        expect(page.locator("#publish-merge-line p")).to_contain_text("Run 1 is merged", timeout=120_000)
        expect(page.locator("#publish-merge-line p")).to_contain_text(HOSTILE)
        expect(page.locator("#publish-merge")).to_be_enabled()
        expect(page.locator("#publish-commands")).to_contain_text("--served-model-name run-1")
        page.locator("#publish-pack-merged").click()
        folder = downloaded(page, "#publish-download-merged", tmp_path)
        page.locator("#publish-merge").click()
        expect(page.get_by_test_id("toast-text")).to_contain_text("nothing is overwritten")
        assert page.evaluate("window.pwned") is None
    assert {path.name for path in folder.iterdir()} == {path.name for path in merging.usual_folder(store, run.id).iterdir()}
    assert json.loads(elsewhere(GREEDY, ".", "", '["Hi"]', folder=folder))["answers"][0][0]


@pytest.mark.parametrize("width", [390, 1440])
def test_commands_are_copied_as_they_are_and_names_stay_text(address: str, browser, width: int) -> None:
    with open_page(address, browser, width=width, permissions=["clipboard-read", "clipboard-write"]) as page:
        go(page)
        expect(page.locator("#publish-api pre")).to_have_count(2)
        expect(page.locator("#publish-commands pre").first).to_be_visible()
        shown = "\n".join(page.locator("#publish-api pre").all_inner_texts())
        assert "python app.py api --model" in shown and HOSTILE in shown and "PREFERENCE_STUDIO_API_KEY" in shown
        assert 'client.chat.completions.create(model="run-1"' in shown
        assert page.locator("#publish-root img").count() == 0 and page.evaluate("window.pwned") is None
        for place, words in ((0, "from_pretrained"), (1, "vllm serve")):
            page.locator("#publish-commands").get_by_role("button").nth(place).click()
            copied = page.evaluate("navigator.clipboard.readText()").strip()
            # The lines are broken on the screen alone.
            assert copied == page.locator("#publish-commands pre code").nth(place).text_content().strip() and words in copied
        assert "\n" not in copied


def test_what_a_hub_would_refuse_is_a_toast_and_a_push_is_followed(world, address: str, browser, monkeypatch) -> None:
    store, run = world
    monkeypatch.setattr(hub, "token", lambda: "hf_nothing")
    started: list[list[str]] = []
    log = store.runs.folder(run.id) / hub.PUSH.log_name()

    def detached(words: list[str], environment: dict, path: Path) -> object:
        started.append(words)
        return LivingProcess()

    monkeypatch.setattr("training.background.launching.detached", detached)
    with open_page(address, browser) as page:
        go(page)
        page.locator("#publish-name input, #publish-name textarea").fill("not a name")
        page.locator("#publish-push").click()
        expect(page.get_by_test_id("toast-text")).to_contain_text("no name for a repository")
        page.locator("#publish-name input, #publish-name textarea").fill("me/mine")
        page.locator("#publish-push").click()
        expect(page.locator("#publish-push-line p")).to_have_text("The pushing is starting …")
        expect(page.locator("#publish-push")).to_be_disabled()
        log.write_text(f"12:00:00 {HOSTILE} is at nowhere.\n")
        expect(page.locator("#publish-push-line p")).to_have_text(f"{HOSTILE} is at nowhere.")
        expect(page.locator("#publish-push")).to_be_enabled()
    assert started[0][2] == "publish.hub" and started[0][-2:] == ["--name", "me/mine"] and "hf_nothing" not in str(started)


def test_a_project_without_a_finished_run_says_only_what_to_do(address: str, browser) -> None:
    def choose(page: Page, project: str) -> None:
        page.locator("#project input").click()
        page.get_by_role("option", name=project, exact=True).click()

    with open_page(address, browser) as page:
        go(page)
        choose(page, "Nothing trained")
        expect(page.locator("#publish-about p")).to_have_text(view.NO_RUN)
        expect(page.locator(".publish-card:visible, #publish-run:visible")).to_have_count(0)
        assert page.locator("#publish-root").inner_text().strip() == view.NO_RUN
        choose(page, "Trained")
        expect(page.locator("#publish-pack")).to_be_enabled()
        expect(page.locator("#publish-run input")).to_have_value(re.compile("^Run 1: DPO"))
        expect(page.locator("#publish-commands pre").first).to_be_visible()


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_is_wider_than_the_screen(address: str, browser, width: int) -> None:
    with open_page(address, browser, width=width) as page:
        go(page)
        expect(page.locator("#publish-commands pre").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cut = page.locator("#publish-root pre").evaluate_all("all => all.filter(each => each.scrollWidth > each.clientWidth).length")
        assert cut == 0
        for name in ("#publish-pack", "#publish-merge", "#publish-push", "#publish-commands", "#publish-api"):
            box = page.locator(name).bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width, name


def test_a_block_of_code_cannot_be_ended_from_inside() -> None:
    text = "a\n```\nb\n`````\nc"
    block = view.fenced(text, "shell")
    fence = re.match(r"`+", block)[0]
    assert block == f"{fence}shell\n{text}\n{fence}" and fence not in text
