"""Labels as preferences with their texts: which labels count, and what a ranking or an edit says of two responses.

Owns the policy that training and export share. Does not know what is trained on it.

| which | labels that count |
|---|---|
| all | every vote; the known answers of checks |
| majority | one an item: the final label, else what more votes say than anything else; an even split is left out |
| adjudicated | final labels only |
| unanimous | one an item: what all its votes say, two of them at least |

Votes on checks never count: they say something of the annotator, and the known answer is there already. Skips and
flags are no preferences.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

from errors import ConfigError

if TYPE_CHECKING:
    from storage.database import Store

WHICH = ("all", "majority", "adjudicated", "unanimous")
NO_PREFERENCE = "('skip', 'flag', 'undo')"


def judged(store: Store, project_id: int, run_id: int | None = None, which: str = "all") -> Iterator[dict[str, Any]]:
    """Yield preferences in label order: one for each label, several for a ranking (one for each two tiers' pairs).

    run_id: the labels of that run's snapshot, as they were; else the current ones; which: one of WHICH.
    Each row: `label_id, item_id, annotator, role, verdict, source, strength, created_at, prompt_id, messages (list),
    responses, is_extreme`. responses: a list of `{"id", "text", "chosen": bool}`, one or two; of a label in stored
    order, of a ranking or an edit (their verdict is "chosen" here) the better one first. is_extreme: False for those
    pairs of a ranking that are not of its first and its last tier: what judges responses one by one leaves them out.
    Raises ConfigError for another `which`.
    """
    if run_id is not None:
        chosen, parameters = "SELECT label_id FROM run_labels WHERE run_id = ?", [run_id]
    else:
        chosen, parameters = "SELECT value FROM json_each(?)", [json.dumps(label_ids(store, project_id, which))]
    rows = store.db.query(
        f"""
        SELECT labels.id AS label_id, labels.item_id, annotator, role, verdict, labels.source, strength,
               labels.created_at, chosen_response_id, rejected_response_id, ranking, prompts.id AS prompt_id,
               prompts.messages, edit.text AS edited_text,
               (SELECT json_group_array(json_object('id', id, 'text', text)) FROM (
                    SELECT responses.id, responses.text FROM item_responses
                    JOIN responses ON responses.id = item_responses.response_id
                    WHERE item_responses.item_id = items.id ORDER BY item_responses.position)) AS responses
        FROM labels JOIN items ON items.id = labels.item_id JOIN prompts ON prompts.id = items.prompt_id
        LEFT JOIN responses AS edit ON verdict = 'edited' AND edit.id = chosen_response_id
        WHERE labels.id IN ({chosen}) AND items.project_id = ? AND verdict NOT IN {NO_PREFERENCE}
        ORDER BY labels.id
        """,
        [*parameters, project_id],
    )
    return (preference for row in rows for preference in _preferences(row))


def label_ids(store: Store, project_id: int, which: str = "all") -> list[int]:
    """Return the ids of the current labels that count, in order. Raises ConfigError for an unknown `which`."""
    if which not in WHICH:
        raise ConfigError(f"labels: {which!r} is none of {', '.join(WHICH)}")
    rows = store.db.conn.execute(
        f"""
        SELECT current_labels.item_id, role = 'final', is_check, label_id,
               coalesce(chosen_response_id, ranking, verdict) AS choice
        FROM (SELECT item_id, label_id FROM current_labels WHERE role IN ('vote', 'final')) AS current_labels
        JOIN labels ON labels.id = label_id JOIN items ON items.id = current_labels.item_id
        WHERE items.project_id = ? AND verdict NOT IN {NO_PREFERENCE}
        ORDER BY current_labels.item_id, label_id
        """,
        [project_id],
    )
    counting: list[int] = []
    for _, labels in groupby(rows, key=lambda row: row[0]):
        counting += _counting(list(labels), which)
    return sorted(counting)


def _counting(labels: list[tuple], which: str) -> list[int]:
    """Return which of one item's labels count. labels: (item, is final, is of a check, id, choice)."""
    final = [label_id for _, is_final, _, label_id, _ in labels if is_final]
    votes = [(label_id, choice) for _, is_final, is_check, label_id, choice in labels if not is_final and not is_check]
    is_check = labels[0][2]
    if which == "adjudicated" or is_check:
        return final
    if which == "all":
        return [label_id for label_id, _ in votes]
    choices = Counter(choice for _, choice in votes)
    if which == "unanimous":
        return [votes[0][0]] if len(votes) > 1 and len(choices) == 1 else []
    if final:
        return final
    (choice, most), *others = choices.most_common(2)
    if others and others[0][1] == most:
        return []
    return [next(label_id for label_id, said in votes if said == choice)]


def _preferences(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    chosen, rejected, ranking = row.pop("chosen_response_id"), row.pop("rejected_response_id"), row.pop("ranking")
    edited, responses = row.pop("edited_text"), json.loads(row["responses"])
    row |= {"messages": json.loads(row["messages"]), "is_extreme": True}
    texts = {response["id"]: response["text"] for response in responses}
    if row["verdict"] == "ranked":
        tiers = json.loads(ranking)
        for better, worse in ((b, w) for w in range(len(tiers)) for b in range(w)):
            is_extreme = better == 0 and worse == len(tiers) - 1
            for first in tiers[better]:
                for second in tiers[worse]:
                    yield {**row, **_chosen(first, texts[first], second, texts[second]), "is_extreme": is_extreme}
    elif row["verdict"] == "edited":
        yield {**row, **_chosen(chosen, edited, rejected, texts[rejected])}
    else:
        yield {**row, "responses": [{**response, "chosen": response["id"] == chosen} for response in responses]}


def _chosen(better: int, better_text: str, worse: int, worse_text: str) -> dict[str, Any]:
    return {
        "verdict": "chosen",
        "responses": [
            {"id": better, "text": better_text, "chosen": True}, {"id": worse, "text": worse_text, "chosen": False},
        ],
    }
