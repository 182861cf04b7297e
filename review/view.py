"""What the Review tab shows of labels and annotators, as sentences and rows of tables: no figure without its ground.

Knows no page and stores nothing. What there is to decide is shown by `desk`.
"""

from __future__ import annotations

from dataclasses import dataclass

from review.agreement import NOUNS, Agreement, agreement, most_voted
from review.annotators import Figures, Share, figures
from review.measures import Measure
from storage import Store
from storage.records import KINDS

KINDS_IN_WORDS = {kind: f"{NOUNS[kind].capitalize()}s" for kind in KINDS}
AGREEMENT_COLUMNS = ("Who", "Agreement", "95% interval", "Items", "Measure")
TAG_COLUMNS = ("Reason", "Named", "Given to the same items", "Same answer where given", "Items")
ANNOTATOR_COLUMNS = ("Annotator", "Labels", "Chose left", "Checks right", "Repeats the same", "Fast", "Median seconds")
ORDER_COLUMNS = ("Items came", "Labels that contradict the run", "95% interval", "Labels")
MOST_PAIRS = 200
NO_PROJECT = "Choose a project at the top of the page."
SOURCES = {"shuffled": "by chance", "uncertain": "where the run is uncertain", "contradicted": "where the run contradicts labels"}


@dataclass(frozen=True)
class AgreementView:
    """The Agreement section: a sentence, and the rows of its two tables."""

    sentence: str
    rows: list[list[str]]
    tags: list[list[str]]


@dataclass(frozen=True)
class AnnotatorsView:
    """The Annotators section: a sentence, its rows, and those about the order of a run."""

    sentence: str
    rows: list[list[str]]
    orders: list[list[str]]


def agreement_view(store: Store, project_id: int | None, kind: str | None) -> AgreementView:
    """Return how far people agree on one kind of item, in rows."""
    if project_id is None:
        return AgreementView(NO_PROJECT, [], [])
    found = agreement(store, project_id, kind)
    if len(found.annotators) < 2 or found.krippendorff.why == "no item has labels from two people":
        return AgreementView(_alone(found), [], [])
    everybody = [("Everybody", "Krippendorff's alpha", found.krippendorff), ("Everybody", "Fleiss' kappa", found.fleiss)]
    shared = sorted(((pair, each) for pair, each in found.cohen.items() if each.items), key=lambda one: -one[1].items)
    pairs = [(f"{x} and {y}", "Cohen's kappa", each) for (x, y), each in shared[:MOST_PAIRS]]
    apart = len(found.cohen) - len(shared)
    said = f"{found.items:,} {NOUNS[found.kind]}s have labels, from {len(found.annotators):,} people."
    said += f" {apart:,} pairs of people have no item in common." if apart else ""
    said += f" Shown are the {MOST_PAIRS} pairs of people with most items in common." if len(shared) > MOST_PAIRS else ""
    tags = [
        [tag, f"{each.votes:,}", _short(each.given), _short(each.answers), f"{each.answers.items:,}"]
        for tag, each in found.tags.items()
    ]
    return AgreementView(said, [_measure_row(*row) for row in (*everybody, *pairs)], tags)


def annotators_view(store: Store, project_id: int | None) -> AnnotatorsView:
    """Return how each annotator labels, in rows."""
    if project_id is None:
        return AnnotatorsView(NO_PROJECT, [], [])
    found: Figures = figures(store, project_id)
    if not found.annotators:
        return AnnotatorsView("Nobody has labelled anything here yet. Labels are given on the Label tab.", [], [])
    rows = [
        [
            each.name, f"{each.labels:,}", _share(each.left), _share(each.checks), _share(each.repeats), f"{each.fast:,}",
            "–" if each.median_seconds is None else f"{each.median_seconds:.1f}",
        ]
        for each in found.annotators
    ]
    orders = [
        [SOURCES[each.picked], _percent(each.contradicted), _interval(each.contradicted), f"{each.contradicted.of:,}"]
        for each in found.orders
    ]
    return AnnotatorsView("", rows, orders)


def kinds_of(store: Store, project_id: int | None, kind: str | None) -> tuple[list[tuple[str, str]], str]:
    """Return the kinds of items a project has as (words, kind), and the one to show: this one, or the most voted."""
    if project_id is None:
        return [(KINDS_IN_WORDS["pair"], "pair")], "pair"
    most = most_voted(store, project_id)
    counts = store.items.counts(project_id)
    there = [each for each in KINDS if counts[each]["total"] or each == most]
    return [(KINDS_IN_WORDS[each], each) for each in there], kind if kind in there else most


def _alone(found: Agreement) -> str:
    if not found.annotators:
        return f"Nobody has labelled a {NOUNS[found.kind]} here yet. Labels are given on the Label tab."
    return (
        f"{found.items:,} {NOUNS[found.kind]}s have labels, but {found.krippendorff.why}: there is nothing to compare."
        " Set **labels per item** to 2 or more under Settings, and let a second person label."
    )


def _measure_row(who: str, name: str, measure: Measure) -> list[str]:
    if measure.value is None:
        return [who, "–", measure.why, f"{measure.items:,}", name]
    return [who, f"{measure.value:.2f}", f"{measure.low:.2f} to {measure.high:.2f}", f"{measure.items:,}", name]


def _short(measure: Measure) -> str:
    return f"– ({measure.why})" if measure.value is None else f"{measure.value:.2f} ({measure.low:.2f} to {measure.high:.2f})"


def _share(share: Share) -> str:
    return "–" if share.value is None else f"{_percent(share)} ({_interval(share)}) of {share.of:,}"


def _percent(share: Share) -> str:
    return f"{100 * share.value:.0f}%"


def _interval(share: Share) -> str:
    return f"{100 * share.low:.0f} to {100 * share.high:.0f}%"
