"""A project's labels as a file that other tools load as it is.

Owns the policy: what several labels of one thing add up to, and what is left out. One row for each two responses that
were compared, or each response, however many people judged it: what most of them said. The final label of an item
stands for its votes. It does not know how labels were given, nor what a ranking says (`storage.judged` does).

| label | trl-preference | trl-unpaired |
|---|---|---|
| one of a pair is better | a row | the better one good, the other bad |
| a ranking | a row for each two responses of different tiers | the first tier good, the last one bad |
| a better answer that somebody wrote | a row, against the one it was made from | the new one good, the other bad |
| both bad | left out | both bad |
| tie | left out | left out |
| good, bad | left out | a row |
| skip, flag | left out | left out |
| as many say one thing as the other | left out | left out |
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from heapq import merge
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson

from errors import ConfigError, NotFoundError
from storage import Project, Store
from storage.history import history
from storage.judged import judgements, majority
from transfer.exporting.dataset import write_dataset
from transfer.exporting.filters import Filters
from transfer.exporting.write import file_type, schema_of, write
from transfer.wording import counted, left_out_sentence

KINDS = {
    "trl-preference": "pairs, for DPO: prompt, chosen, rejected",
    "trl-unpaired": "single responses, for KTO: prompt, completion, label",
    "sharegpt": "pairs in ShareGPT's turns: conversations, chosen, rejected",
    "labels": "everything: one row for each label, to be brought in again",
    "dataset": "a folder with a card, for load_dataset: pairs and single responses as Parquet",
}

NOT_A_PREFERENCE = {
    "tie": "ties", "both_bad": "pairs that are both bad", "good": "single responses", "bad": "single responses",
}

CONFIGS = {"preference": "trl-preference", "unpaired": "trl-unpaired"}

SHAREGPT_NAMES = {"user": "human", "assistant": "gpt"}

Row = dict[str, Any]


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote. rows: lines in the file. left_out: labels, pairs or responses without a row, by reason."""

    project: str
    kind: str
    path: str
    rows: int
    left_out: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)

    def sentence(self) -> str:
        """Return the report in words."""
        said = f"{counted(self.rows, 'row')} of {self.project!r} as {self.kind} in {Path(self.path).name}."
        return f"{said} {left_out_sentence(self.left_out)}".strip()


def export(
    store: Store, project: Project, kind: str, path: Path | str, *, filters: Filters = Filters(),
    progress: Callable[[int], None] | None = None, stop: Callable[[], bool] | None = None,
) -> ExportReport:
    """Write a project's labels to a file: JSON lines, CSV (both gzipped when it ends in .gz) or Parquet, by its name.

    kind: one of KINDS. progress: called with the rows so far, now and then; stop: asked then whether to give up.
    The file appears whole or not at all, and replaces one of that name.
    Raises ConfigError for an unknown kind or type of file, NotFoundError when there is no row to write,
    StorageError when the file cannot be written.
    """
    if kind not in KINDS:
        raise ConfigError(f"there is no export {kind!r}; it can be {' or '.join(KINDS)}")
    path = Path(path).expanduser()
    if kind == "dataset":
        return _dataset(store, project, path, filters, progress, stop)
    is_parquet = file_type(path) == ".parquet"
    if filters.run is not None and store.runs.get(filters.run).project_id != project.id:
        raise ConfigError(f"run: run {filters.run} belongs to another project than {project.name!r}")
    left_out: Counter[str] = Counter()
    if kind != "labels" and filters.run is None:
        counts = store.labels.counts(project.id)
        left_out.update(skips=counts["skip"], flags=counts["flag"])
    rows = _rows(store, project.id, kind, filters, left_out)
    if kind == "labels" and is_parquet:
        rows = map(_settings_as_text, rows)
    first = next(rows, None)
    if first is None:
        why = [left_out_sentence(left_out), _what_now(store, project.id, kind, filters, left_out)]
        raise NotFoundError(" ".join([f"{project.name!r} has nothing to export as {kind} yet.", *filter(None, why)]))
    watched = _watched(_again(first, rows), progress, stop)
    number = write(path, watched, schema_of(kind) if is_parquet else None)
    return ExportReport(
        project.name, kind, str(path), number, {reason: count for reason, count in left_out.items() if count}
    )


def _rows(store: Store, project_id: int, kind: str, filters: Filters, left_out: Counter[str]) -> Iterator[Row]:
    makers = {"trl-preference": _preferences, "trl-unpaired": _unpaired, "sharegpt": _sharegpt, "labels": _history}
    return makers[kind](store, project_id, filters, left_out)


def _what_now(store: Store, project_id: int, kind: str, filters: Filters, left_out: Counter[str]) -> str:
    """Return what to do about an export without rows: something that has some. left_out: what it left out."""

    def has_rows(kind: str, filters: Filters) -> bool:
        kinds = CONFIGS.values() if kind == "dataset" else [kind]
        return any(next(_rows(store, project_id, each, filters, Counter()), None) for each in kinds)

    if left_out["single responses"]:
        return "Export single responses as trl-unpaired."
    if filters != Filters() and has_rows(kind, Filters()):
        return "Choose fewer filters."
    if kind != "labels" and has_rows("labels", filters):
        return "Export as labels to have everything that was said."
    return "Choose fewer filters." if has_rows("labels", Filters()) else "Label something first, or import labels."


def _dataset(
    store: Store, project: Project, path: Path, filters: Filters,
    progress: Callable[[int], None] | None, stop: Callable[[], bool] | None,
) -> ExportReport:
    """Write both of TRL's kinds that have rows as the configs of one folder."""
    reports: dict[str, ExportReport] = {}

    def fill(folder: Path) -> dict[str, ExportReport]:
        for config, kind in CONFIGS.items():
            try:
                reports[config] = export(
                    store, project, kind, folder / f"{config}.parquet", filters=filters, progress=progress, stop=stop
                )
            except NotFoundError:
                continue
        if not reports:
            now = _what_now(store, project.id, "dataset", filters, Counter())
            raise NotFoundError(f"{project.name!r} has nothing to export as dataset yet. {now}")
        return reports

    people = {label["annotator"] for label in _labels(store, project.id, filters, Counter())}
    write_dataset(path, project.name, filters, len(people), fill)
    left_out = {f"{why} ({config})": n for config, report in reports.items() for why, n in report.left_out.items()}
    return ExportReport(project.name, "dataset", str(path), sum(report.rows for report in reports.values()), left_out)


def _watched(rows: Iterator[Row], progress: Callable[[int], None] | None, stop: Callable[[], bool] | None) -> Iterator[Row]:
    for number, row in enumerate(rows, start=1):
        if number % 1_000 == 0:
            if progress:
                progress(number)
            if stop and stop():
                raise ConfigError("Nothing was exported: it was cancelled.")
        yield row


def _again(first: Row, rest: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rest


def _history(store: Store, project_id: int, filters: Filters, left_out: Counter[str]) -> Iterator[Row]:
    """Yield the labels themselves, all versions or the current ones."""
    for row in filters.kept(history(store, project_id, filters.run), left_out):
        if filters.state == "current" and filters.run is None and not row["current"]:
            left_out["labels that are no longer current"] += 1
            continue
        del row["kind"]
        yield row


def _settings_as_text(row: Row) -> Row:
    """Return a row of `labels` whose settings are JSON text: Parquet has one type for a column."""
    return {
        **row, "responses": [_with_text(response) for response in row["responses"]],
        "better": row["better"] and _with_text(row["better"]),
    }


def _with_text(response: Row) -> Row:
    settings = response["settings"]
    return {**response, "settings": None if settings is None else orjson.dumps(settings).decode()}


def _labels(store: Store, project_id: int, filters: Filters, left_out: Counter[str]) -> Iterator[Row]:
    """Yield what is judged in label order: the final label of an item, else its votes; or as the filters say."""
    if filters.run is not None:
        return filters.kept(store.labels.judged(project_id, run_id=filters.run), left_out)
    if filters.which != "all":
        return filters.kept(store.labels.judged(project_id, which=filters.which), left_out)
    final = {label["item_id"] for label in store.labels.judged(project_id, which="adjudicated")}
    votes = (label for label in store.labels.judged(project_id) if label["item_id"] not in final)
    rows = merge(store.labels.judged(project_id, which="adjudicated"), votes, key=itemgetter("label_id"))
    return filters.kept(rows, left_out)


def _agreed(votes: Counter[Any], filters: Filters) -> Any:
    """Return what most votes say, if enough of them do, or None."""
    said = majority(votes)
    return said if said is not None and votes[said] >= filters.min_agreement * votes.total() else None


def _preferences(store: Store, project_id: int, filters: Filters, left_out: Counter[str]) -> Iterator[Row]:
    """Yield a row for each two responses that most people decide the same way; count the rest."""
    votes: defaultdict[frozenset[int], Counter[Any]] = defaultdict(Counter)
    for label in _labels(store, project_id, filters, left_out):
        votes[_compared(label)][_choice(label)] += 1
    decided = {compared: _agreed(counter, filters) for compared, counter in votes.items()}
    undecided = [choice for choice in decided.values() if not _is_id(choice)]
    left_out.update(NOT_A_PREFERENCE.get(choice, "pairs without a majority") for choice in undecided)
    for label in _labels(store, project_id, filters, Counter()):
        chosen_id = decided.pop(_compared(label), None)
        if _is_id(chosen_id):
            texts = {response["id"] == chosen_id: response["text"] for response in label["responses"]}
            yield {"prompt": label["messages"], "chosen": _answer(texts[True]), "rejected": _answer(texts[False])}


def _sharegpt(store: Store, project_id: int, filters: Filters, left_out: Counter[str]) -> Iterator[Row]:
    """Yield the preferences with ShareGPT's names of turns."""
    for row in _preferences(store, project_id, filters, left_out):
        yield {
            "conversations": [_turn(message) for message in row["prompt"]],
            "chosen": _turn(row["chosen"][0]), "rejected": _turn(row["rejected"][0]),
        }


def _turn(message: Row) -> Row:
    return {"from": SHAREGPT_NAMES.get(message["role"], message["role"]), "value": message["content"]}


def _unpaired(store: Store, project_id: int, filters: Filters, left_out: Counter[str]) -> Iterator[Row]:
    """Yield a row for each response that most labels call good, or bad; count the rest."""
    votes: defaultdict[int, Counter[bool]] = defaultdict(Counter)
    for _, response, good in judgements(_labels(store, project_id, filters, left_out)):
        votes[response["id"]][good] += 1
    in_between: set[int] = set()
    for label in _labels(store, project_id, filters, Counter()):
        left_out["ties"] += label["verdict"] == "tie"
        if not label["is_extreme"]:
            in_between |= _compared(label)
    left_out["responses ranked in between"] = len(in_between - votes.keys())
    decided = {response_id: _agreed(counter, filters) for response_id, counter in votes.items()}
    left_out["responses without a majority"] = sum(good is None for good in decided.values())
    for label, response, _ in judgements(_labels(store, project_id, filters, Counter())):
        good = decided.pop(response["id"], None)
        if good is not None:
            yield {"prompt": label["messages"], "completion": _answer(response["text"]), "label": good}


def _compared(label: Row) -> frozenset[int]:
    """Return the ids of the responses that a label is about."""
    return frozenset(response["id"] for response in label["responses"])


def _choice(label: Row) -> int | str:
    """Return what a label says of its responses: the id of the preferred one, or the verdict."""
    return next((response["id"] for response in label["responses"] if response["chosen"]), label["verdict"])


def _is_id(choice: Any) -> bool:
    return isinstance(choice, int)


def _answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
