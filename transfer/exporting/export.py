"""A project's labels as a file that TRL loads as it is.

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

import gzip
import json
import os
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from heapq import merge
from operator import itemgetter
from pathlib import Path
from typing import Any, TextIO

from errors import ConfigError, NotFoundError, StorageError
from storage import Project, Store
from storage.judged import judgements, majority
from transfer.wording import counted, left_out_sentence

KINDS = {
    "trl-preference": "pairs, for DPO: prompt, chosen, rejected",
    "trl-unpaired": "single responses, for KTO: prompt, completion, label",
}

NOT_A_PREFERENCE = {
    "tie": "ties", "both_bad": "pairs that are both bad", "good": "single responses", "bad": "single responses",
}

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


def export(store: Store, project: Project, kind: str, path: Path | str) -> ExportReport:
    """Write a project's labels as JSON lines with conversational prompts; gzipped when the path ends in .gz.

    kind: one of KINDS. The file appears whole or not at all, and replaces one of that name.
    Raises ConfigError for an unknown kind, NotFoundError when there is no row to write,
    StorageError when the file cannot be written.
    """
    if kind not in KINDS:
        raise ConfigError(f"there is no export {kind!r}; it can be {' or '.join(KINDS)}")
    path = Path(path).expanduser()
    counts = store.labels.counts(project.id)
    left_out: Counter[str] = Counter(skips=counts["skip"], flags=counts["flag"])
    rows = (_preferences if kind == "trl-preference" else _unpaired)(store, project.id, left_out)
    first = next(rows, None)
    if first is None:
        why = left_out_sentence(left_out)
        raise NotFoundError(f"{project.name!r} has nothing to export as {kind} yet. {why}".strip())
    with _written(path) as file:
        number = 0
        for number, row in enumerate(_again(first, rows), start=1):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return ExportReport(
        project.name, kind, str(path), number, {reason: count for reason, count in left_out.items() if count}
    )


def _again(first: Row, rest: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rest


def _labels(store: Store, project_id: int) -> Iterator[Row]:
    """Yield what is judged in label order: the final label of an item, else its votes."""
    final = {label["item_id"] for label in store.labels.judged(project_id, which="adjudicated")}
    votes = (label for label in store.labels.judged(project_id) if label["item_id"] not in final)
    return merge(store.labels.judged(project_id, which="adjudicated"), votes, key=itemgetter("label_id"))


def _preferences(store: Store, project_id: int, left_out: Counter[str]) -> Iterator[Row]:
    """Yield a row for each two responses that most people decide the same way; count the rest."""
    votes: defaultdict[frozenset[int], Counter[Any]] = defaultdict(Counter)
    for label in _labels(store, project_id):
        votes[_compared(label)][_choice(label)] += 1
    decided = {compared: majority(counter) for compared, counter in votes.items()}
    undecided = [choice for choice in decided.values() if not _is_id(choice)]
    left_out.update(NOT_A_PREFERENCE.get(choice, "pairs without a majority") for choice in undecided)
    for label in _labels(store, project_id):
        chosen_id = decided.pop(_compared(label), None)
        if _is_id(chosen_id):
            texts = {response["id"] == chosen_id: response["text"] for response in label["responses"]}
            yield {"prompt": label["messages"], "chosen": _answer(texts[True]), "rejected": _answer(texts[False])}


def _unpaired(store: Store, project_id: int, left_out: Counter[str]) -> Iterator[Row]:
    """Yield a row for each response that most labels call good, or bad; count the rest."""
    votes: defaultdict[int, Counter[bool]] = defaultdict(Counter)
    for _, response, good in judgements(_labels(store, project_id)):
        votes[response["id"]][good] += 1
    in_between: set[int] = set()
    for label in _labels(store, project_id):
        left_out["ties"] += label["verdict"] == "tie"
        if not label["is_extreme"]:
            in_between |= _compared(label)
    left_out["responses ranked in between"] = len(in_between - votes.keys())
    decided = {response_id: majority(counter) for response_id, counter in votes.items()}
    left_out["responses without a majority"] = sum(good is None for good in decided.values())
    for label, response, _ in judgements(_labels(store, project_id)):
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


@contextmanager
def _written(path: Path) -> Iterator[TextIO]:
    """Write a file beside its place and move it there when all of it is on the disk."""
    if not path.parent.is_dir():
        raise StorageError(f"Nothing was exported: the folder {path.parent} does not exist. Make it first.")
    if path.is_dir():
        raise StorageError(f"Nothing was exported: {path} is a folder. Give the name of a file.")
    partial = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex[:8]}.part")
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(partial, "xt", encoding="utf-8", newline="\n") as file:
            yield file  # type: ignore[misc]
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise StorageError(f"Nothing was exported: {path} cannot be written ({error.strerror or error}).") from error
    finally:
        partial.unlink(missing_ok=True)
