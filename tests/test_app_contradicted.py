"""From a report to the label that it contradicts, on the whole page."""

from __future__ import annotations

import os
from dataclasses import replace

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import pytest
from playwright.sync_api import expect

import app
from models.client import Workers
from report.measured import read, write
from storage import Project, Store
from tests.browser import open_page, serve
from tests.report_world import finished_run
from tests.training_world import label_pairs
from transfer.jobs import Jobs


@pytest.mark.browser
def test_a_contradicted_label_opens_on_the_review_tab_and_is_decided(store: Store, project: Project, browser) -> None:  # noqa: ANN001
    label_pairs(store, project, 3)
    item = store.items.pairs(project.id, 0, 3)[1]["id"]
    run = finished_run(store, project)
    folder = store.runs.folder(run.id)
    measured = read(folder)
    write(replace(measured, contradicted=(replace(measured.contradicted[0], item_id=item),)), folder)
    workers = Workers(store.folder / "runs", "cpu")
    with serve(app.create_app(store, workers, Jobs())) as address, open_page(address, browser) as page:
        expect(page.locator("#studio-project input")).to_have_value(project.name)
        page.get_by_role("tab", name="Report").click()
        page.locator("#report-open").click()
        expect(page.get_by_role("tab", name="Review")).to_have_attribute("aria-selected", "true")
        expect(page.locator("#review-prompt")).to_contain_text("Question 1?")
        page.locator("#review-b").click()
        for _ in range(200):
            if store.labels.current(item, "final"):
                break
            page.wait_for_timeout(50)
    (final,) = store.labels.current(item, "final")
    assert final.chosen_response_id == store.items.response_ids(item)[1]
