"""Preference files of others, from the upload on the Data tab over the Label tab to a run and an export."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from storage import Store
from tests.browser import open_page
from tests.test_app_commands import REAL_FILES, result
from tests.test_app_loop import CARD, SLOW_MS, open_tab, started

pytestmark = pytest.mark.browser


@pytest.mark.skipif(not REAL_FILES.exists(), reason="the real preference files are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "method", "kind", "key"),
    [
        ("dpo_zh_demo", "dpo", "trl-preference", "2"),
        pytest.param("dpo_en_demo", "dpo", "trl-preference", "2", marks=pytest.mark.slow),
        pytest.param("kto_en_demo", "kto", "trl-unpaired", "2", marks=pytest.mark.slow),
    ],
)
def test_a_file_comes_in_is_labelled_further_trains_and_goes_out(
    browser: Browser, tmp_path: Path, name: str, method: str, kind: str, key: str
) -> None:
    data = tmp_path / "data"
    store = Store(data)
    store.projects.ensure("Empty")  # so that no example project is made, which would ask a model
    with started(data) as address, open_page(address, browser) as page:
        open_tab(page, "Data")
        page.locator("#data-file input[type=file]").set_input_files(REAL_FILES / f"{name}.json")
        expect(page.locator("#data-preview-rows .data-record")).to_have_count(3, timeout=SLOW_MS)
        page.get_by_label("Name of a new project").fill(name)
        page.locator("#data-import").click()
        expect(page.locator("#data-import-report")).to_contain_text("new labels", timeout=SLOW_MS)
        expect(page.locator("#studio-project input")).to_have_value(name)
        project = store.projects.get(name)
        before = store.labels.counts(project.id).total()
        expect(page.locator("#data-import-report")).to_contain_text("labels per item")
        open_tab(page, "Review")
        open_tab(page, "Settings")
        page.get_by_label("Labels per item").fill("2")
        page.locator("#review-save").click()
        expect(page.locator("#review-saved")).to_contain_text("Saved.")
        open_tab(page, "Label")
        if kind == "trl-unpaired":  # the tab opens at pairs, and says what there is instead
            page.get_by_role("button", name="Label 300 single responses").click()
        expect(page.locator(CARD)).to_have_count(1, timeout=SLOW_MS)
        item = page.locator(CARD).get_attribute("data-item")
        page.keyboard.press(key)
        expect(page.locator(f'{CARD}:not([data-item="{item}"])')).to_have_count(1, timeout=SLOW_MS)
        expect(page.locator("#label-page [data-waiting]")).to_have_attribute("data-waiting", "0")
    assert store.labels.counts(project.id).total() == before + 1
    folder = ("--data", str(data))
    ended = result("train", "--project", name, "--method", method, "--set", "steps=3", *folder)
    assert ended["state"] == "finished"
    written = result("export", "--project", name, "--as", kind, "--output", str(tmp_path / "out.jsonl"), *folder)
    assert written["rows"] + sum(written["left_out"].values()) >= before - 1 and written["rows"] > 280
