"""The report as HTML: complete, readable without its data folder, and harmless whatever people and models wrote."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from tests.report_world import HOSTILE, finished_run, measured_run, without_held_out
from tests.training_world import label_pairs

from errors import NotFoundError, StorageError, TrainingError
from report import page, sections
from report.intervals import Interval
from training.config import TrainingConfig
from training.methods import METHODS

VOID = {"meta", "rect", "line", "polyline", "img", "br"}


class Tags(HTMLParser):
    """Collects the tags, attributes and shown text of a page; fails on one that is not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def titles(html: str) -> list[str]:
    return re.findall(r"<h3>(.*?)</h3>", html)


def test_a_measured_run_has_every_section_each_with_its_line_of_explanation(store, project) -> None:
    run = finished_run(store, project)
    html = page.report(store, [run.id])
    assert titles(html) == [
        "In short", "Training", "Agreement with the labels", "Margins", "Labels that the run contradicts most", "Length",
        "Distance from the base", "Before and after", "How this was measured",
    ]
    assert html.count('<p class="report-why">') == html.count("<section>") == 9
    text = Tags(html).text
    for words in (
        "of 20 labels that it never saw", "A falling curve of the preferred answers can be normal", "1.25 (0.90 to 1.60) nats",
        "Choosing the longer answer", "Question 3 An answer.", "3 labels left out", "item 7", "12 tokens", "9 tokens, cut",
    ):
        assert words in text, words


def test_nothing_that_people_or_models_wrote_becomes_html(store, project) -> None:
    run = finished_run(store, project, text=HOSTILE)
    for html in (page.report(store, [run.id]), page.standalone(store, [run.id])):
        tags = Tags(html)
        assert not {"img", "script", "iframe", "a", "link"} & {tag for tag, _ in tags.seen}
        assert not [name for _, attributes in tags.seen for name in attributes if name.startswith("on")]
        assert HOSTILE in tags.text
        assert "${" not in html and "{{" not in html and "`" not in re.sub(r"<style>.*?</style>", "", html, flags=re.S)


def test_a_hostile_project_and_model_name_stay_text(store) -> None:
    project = store.projects.ensure(HOSTILE[:60])
    run = finished_run(store, project)
    tags = Tags(page.standalone(store, [run.id]))
    assert HOSTILE[:60] in tags.text and not {"img", "script"} & {tag for tag, _ in tags.seen}


def test_the_file_needs_nothing_from_elsewhere(store, project, tmp_path) -> None:
    first, second = finished_run(store, project), finished_run(store, project, method="simpo")
    path = page.write(store, [first.id, second.id], tmp_path / "deep" / "report.html")
    html = path.read_text(encoding="utf-8")
    tags = Tags(html)
    assert html.startswith("<!doctype html>") and "default-src 'none'" in html and "prefers-color-scheme: dark" in html
    assert not re.search(r"https?://|url\(|@import|src=|href=", html)
    assert {tag for tag, _ in tags.seen} <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "div", "section", "ul", "li", "b", "small",
        "span", "figure", "figcaption", "svg", "rect", "line", "polyline", "i", "em", "details", "summary", "table", "thead",
        "tbody", "tr", "th", "td",
    }
    assert list(path.parent.iterdir()) == [path]


def test_several_runs_lie_over_each_other_and_beside_each_other(store, project) -> None:
    runs = [finished_run(store, project), finished_run(store, project, method="simpo"), finished_run(store, project, measured=False)]
    html = page.report(store, [run.id for run in runs])
    assert titles(html)[:2] == ["Figures", "Training"]
    heads = re.findall(r"<th>(Run .*?)</th>", html)
    assert heads == ["Run 1 · DPO", "Run 2 · SimPO", "Run 3 · DPO"] and html.count("<h2>") == 3
    loss = html[html.index("<span>Loss</span>") : html.index("<span>Rewards</span>")]
    assert [f"report-run-{place}" in loss for place in range(4)] == [True, True, True, False]
    assert loss.count("<polyline") == 6  # loss and held-out loss of each
    assert html.count("<td>not measured</td>") == len(page.ROWS) and page.NOT_MEASURED in html
    alone = page.report(store, [1])
    assert "<h2>" not in alone and "report-run-0" not in alone and "<table>" not in alone


def test_the_labels_of_runs_are_counted_and_compared(store, project) -> None:
    label_pairs(store, project, 5)
    for labels in ([1, 2, 3], [1, 2, 3], [2, 3, 4, 5], [4, 5]):
        run = store.runs.create(project.id, "dpo", "demo", TrainingConfig().to_dict(), labels)
        store.runs.end(run.id, "finished", "Done.", adapter="a")
    html = page.report(store, [1, 2, 3, 4])
    assert re.search("<th>Labels used</th>(.*?)</tr>", html)[1] == (
        "<td>3</td><td>3, the same as run 1</td><td>4, 2 of them also in run 1</td><td>2, others than run 1</td>"
    )


def test_the_table_and_the_bars_say_the_same_figures(store, project) -> None:
    first, second = finished_run(store, project), finished_run(store, project)
    right = measured_run(first.id).held_out.accuracy_after
    words = f"{right.value:.0%} ({right.low:.0%} to {right.high:.0%})"
    html = page.report(store, [first.id, second.id])
    assert f"<th>Agrees by reward, held out</th><td>{words}</td>" in html
    assert f"agrees by reward, after: {words}" in html


def test_what_cannot_be_reported_is_refused_with_words(store, project, tmp_path) -> None:
    run = finished_run(store, project)
    with pytest.raises(TrainingError, match="at least one"):
        page.report(store, [])
    with pytest.raises(NotFoundError, match="no run number 9"):
        page.report(store, [run.id, 9])
    with pytest.raises(TrainingError, match="At most 6"):
        page.report(store, range(1, 9))
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Choose another place"):
        page.write(store, [run.id], tmp_path / "file" / "report.html")


def test_a_run_that_was_not_measured_shows_its_curves_and_what_to_do(store, project) -> None:
    run = finished_run(store, project, measured=False)
    html = page.report(store, [run.id])
    assert titles(html) == ["Training"] and "Press Measure" in html and html.count("<polyline") == 7


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_reported_and_says_what_its_reward_is(store, project, method) -> None:
    run = finished_run(store, project, method=method)
    text = Tags(page.standalone(store, [run.id])).text
    assert METHODS[method].title in text
    assert ("mean log-probability per token" in text) == (method in ("simpo", "orpo"))


def test_without_held_out_labels_the_first_sentence_warns() -> None:
    assert "the labels that it was trained on (none were held out)" in sections.in_short(without_held_out(measured_run(1)))


def test_luck_and_overfitting_are_said() -> None:
    measured = measured_run(1)
    few = replace(measured.held_out, accuracy_after=Interval(0.6, 0.4, 0.8, 10), loss_after=Interval(1.4, 1.0, 1.8, 10))
    told = sections.in_short(replace(measured, held_out=few))
    assert "may be luck" in told and "rose from 0.69 to 1.40" in told
    sure = replace(measured.held_out, accuracy_after=Interval(0.8, 0.7, 0.9, 100), loss_after=Interval(0.4, 0.3, 0.5, 100))
    told = sections.in_short(replace(measured, held_out=sure))
    assert "luck" not in told and "fell from 0.69 to 0.40" in told


@pytest.mark.parametrize(
    ("by_length", "by_model", "words"),
    [((0.9, 0.8, 0.95), 0.91, "Length alone explains nearly all"), ((0.2, 0.1, 0.3), 0.9, "prefer the shorter answer"), ((0.55, 0.4, 0.7), 0.9, "")],
)
def test_what_length_explains_is_said_in_words(by_length, by_model, words) -> None:
    measured = measured_run(1)
    figures = replace(
        measured.held_out, by_length=Interval(*by_length, 40), by_model=Interval(by_model, by_model - 0.1, by_model + 0.05, 40)
    )
    told = sections.length(replace(measured, held_out=figures))
    assert words in told and ("explains nearly all" in told) == (words.startswith("Length"))


def test_long_texts_are_shortened_and_many_labels_are_cut() -> None:
    measured = measured_run(1, text="long " * 1000)
    html = sections.contradicted(measured)
    assert html.count("<details") == sections.MOST_LISTED and " …" in html and len(html) < 100_000
