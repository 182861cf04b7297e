"""The name of what a run was trained on, and how two runs' labels differ. Does not know how a run trains."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.database import Store

NAME_LENGTH = 16
WORDS_LENGTH = 60
# Append-only like the migrations: a migration and names already given depend on it.
CONTENT = """
    SELECT json_array(prompts.messages, labels.annotator, labels.role, labels.verdict, labels.strength,
        (SELECT text FROM responses WHERE id = chosen_response_id),
        (SELECT text FROM responses WHERE id = rejected_response_id),
        (SELECT json_group_array(text) FROM (SELECT text FROM item_responses JOIN responses ON responses.id = response_id
            WHERE item_responses.item_id = labels.item_id ORDER BY item_responses.position)),
        (SELECT json_group_array(json_array(tiers.key, text)) FROM json_each(ranking) AS tiers, json_each(tiers.value) AS one
            JOIN responses ON responses.id = one.value)) AS content
    FROM run_labels JOIN labels ON labels.id = label_id JOIN items ON items.id = labels.item_id
    JOIN prompts ON prompts.id = items.prompt_id WHERE run_id = ?
    ORDER BY content
"""


def snapshot_name(connection: sqlite3.Connection, run_id: int) -> str:
    """Return 16 hexadecimal digits that say which labels a run used: equal for equal content, whatever the ids."""
    digest = hashlib.sha256()
    for (content,) in connection.execute(CONTENT, [run_id]):
        digest.update(content.encode() + b"\n")
    return digest.hexdigest()[:NAME_LENGTH]


@dataclass(frozen=True)
class Said:
    """What labels of one item say in one or both runs. before, after: "annotator: judgement" of run A and run B."""

    item_id: int
    prompt: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """How the labels of run B differ from those of run A, by item."""

    run_a: int
    run_b: int
    only_a: tuple[Said, ...]
    only_b: tuple[Said, ...]
    changed: tuple[Said, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the difference as JSON values."""
        return asdict(self)

    def sentence(self) -> str:
        """Return the difference in one sentence."""
        return (
            f"Items judged only in run {self.run_a}: {len(self.only_a):,}; only in run {self.run_b}: "
            f"{len(self.only_b):,}; judged differently: {len(self.changed):,}."
        )

    def lines(self) -> list[str]:
        """Return the sentence and one line for each item that differs."""
        signs = [("-", self.only_a), ("+", self.only_b), ("~", self.changed)]
        return [self.sentence()] + [
            f"{sign} item {said.item_id} {said.prompt!r}: "
            + " → ".join("; ".join(part) for part in (said.before, said.after) if part)
            for sign, group in signs for said in group
        ]


def difference(store: Store, run_a: int, run_b: int) -> Difference:
    """Return which items' labels differ between two runs' snapshots."""
    before, after = _said(store, run_a), _said(store, run_b)
    groups: dict[str, list[Said]] = {"only_a": [], "only_b": [], "changed": []}
    for item_id in sorted(before.keys() | after.keys()):
        prompt, old = before.get(item_id, ("", ()))
        other, new = after.get(item_id, ("", ()))
        if old != new:
            group = "changed" if old and new else "only_a" if old else "only_b"
            groups[group].append(Said(item_id, prompt or other, old, new))
    return Difference(run_a, run_b, **{name: tuple(group) for name, group in groups.items()})


def _said(store: Store, run_id: int) -> dict[int, tuple[str, tuple[str, ...]]]:
    """Return the prompt's beginning and what is said, by item."""
    rows = store.rows(
        """
        SELECT labels.item_id, annotator, role, verdict, messages, ranking,
            (SELECT text FROM responses WHERE id = chosen_response_id) AS chosen
        FROM run_labels JOIN labels ON labels.id = label_id JOIN items ON items.id = labels.item_id
        JOIN prompts ON prompts.id = items.prompt_id WHERE run_id = ? ORDER BY labels.item_id, annotator, role
        """,
        [run_id],
    )
    said: dict[int, tuple[str, tuple[str, ...]]] = {}
    for row in rows:
        words = row["verdict"].replace("_", " ")
        if row["chosen"] is not None:
            words += f" {_beginning(row['chosen'])!r}"
        elif row["ranking"]:
            words += f" responses {row['ranking']}"
        prompt, earlier = said.get(row["item_id"], (_beginning(json.loads(row["messages"])[-1]["content"]), ()))
        final = " (final)" if row["role"] == "final" else ""
        said[row["item_id"]] = prompt, (*earlier, f"{row['annotator']}{final}: {words}")
    return said


def _beginning(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= WORDS_LENGTH else text[: WORDS_LENGTH - 1] + "…"
