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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from errors import ConfigError

if TYPE_CHECKING:
    from storage.database import Store

WHICH = ("all", "majority", "adjudicated", "unanimous")
# Where votes need not be compared, a label counts by its role.
ROLES = {"all": "iif(is_check, 'final', 'vote')", "adjudicated": "'final'"}
NO_PREFERENCE = "('skip', 'flag', 'undo')"


@dataclass(frozen=True)
class Tally:
    """What a project's labels say, counted. verdicts: labels of each; tiers: the sizes of each ranking's, best first.

    prompts: how many different ones have a label that is no tie.
    """

    verdicts: Counter[str]
    tiers: tuple[tuple[int, ...], ...]
    prompts: int


def judged(store: Store, project_id: int, run_id: int | None = None, which: str = "all") -> Iterator[dict[str, Any]]:
    """Yield preferences in label order: one for each label, several for a ranking (one for each two tiers' pairs).

    run_id: the labels of that run's snapshot, as they were; else the current ones; which: one of WHICH.
    Each row: `label_id, item_id, kind, annotator, role, verdict, said, source, strength, created_at, prompt_id, messages
    (list), responses, is_extreme`. responses: a list of `{"id", "text", "chosen": bool}`, one or two; of a label in
    stored order, of a ranking or an edit the better one first: their verdict is "chosen" here, and said is what the
    label's own is. is_extreme: False for those pairs of a ranking that are not of its first and its last tier: what
    judges responses one by one leaves them out.
    Raises ConfigError for another `which`.
    """
    if run_id is not None:
        counting, parameters = "SELECT label_id FROM run_labels WHERE run_id = ?", [run_id]
    else:
        counting, parameters = _counting(store, project_id, which)
    rows = store.db.query(
        f"""
        SELECT labels.id AS label_id, labels.item_id, annotator, role, verdict, verdict AS said, labels.source, strength,
               labels.created_at, items.kind, chosen_response_id, rejected_response_id, ranking, prompts.id AS prompt_id,
               prompts.messages, edit.text AS edited_text,
               (SELECT json_group_array(json_object('id', id, 'text', text)) FROM (
                    SELECT responses.id, responses.text FROM item_responses
                    JOIN responses ON responses.id = item_responses.response_id
                    WHERE item_responses.item_id = items.id ORDER BY item_responses.position)) AS responses
        FROM labels JOIN items ON items.id = labels.item_id JOIN prompts ON prompts.id = items.prompt_id
        LEFT JOIN responses AS edit ON verdict = 'edited' AND edit.id = chosen_response_id
        WHERE labels.id IN ({counting}) AND items.project_id = ? AND verdict NOT IN {NO_PREFERENCE}
        ORDER BY labels.id
        """,
        [*parameters, project_id],
    )
    return (preference for row in rows for preference in _preferences(row))


def tally(store: Store, project_id: int, which: str = "all") -> Tally:
    """Return what the labels that count say, without their texts. Raises ConfigError for another `which`."""
    counting, parameters = _counting(store, project_id, which)
    # CROSS: from the labels that count to their rows, not from all rows there are.
    source = (
        f"FROM ({counting}) AS counting CROSS JOIN labels ON labels.id = label_id JOIN items ON items.id = labels.item_id"
        f" WHERE verdict NOT IN {NO_PREFERENCE}"
    )
    conn, tiers, verdicts = store.db.conn, [], Counter()
    rankings = "json_group_array(json(ranking)) FILTER (WHERE ranking IS NOT NULL)"
    counted = conn.execute(f"SELECT verdict, count(*), {rankings} {source} GROUP BY verdict", parameters)
    for verdict, count, ranked in counted:
        verdicts[verdict] = count
        tiers += [tuple(map(len, ranking)) for ranking in json.loads(ranked)]
    prompts = conn.execute(f"SELECT count(DISTINCT items.prompt_id) {source} AND verdict <> 'tie'", parameters)
    return Tally(verdicts, tuple(tiers), prompts.fetchone()[0])


def judgements(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any], bool]]:
    """Yield each response that a label calls good or bad once, as row, response and whether it is good.

    Of a pair the better one is good and the other bad; of a ranking those of the first and of the last tier.
    """
    seen: set[tuple[int, int]] = set()
    for row in rows:
        if row["verdict"] == "tie" or not row["is_extreme"]:
            continue
        for response in row["responses"]:
            if (mark := (row["label_id"], response["id"])) not in seen:
                seen.add(mark)
                yield row, response, row["verdict"] == "good" or response["chosen"]


def majority(votes: Counter[Any]) -> Any:
    """Return what more votes say than anything else, or None."""
    most = votes.most_common(2)
    return most[0][0] if len(most) == 1 or (most and most[0][1] > most[1][1]) else None


def _counting(store: Store, project_id: int, which: str) -> tuple[str, list[Any]]:
    """Return the query, and its parameters, that gives the column `label_id` of the labels that count."""
    if which not in WHICH:
        raise ConfigError(f"labels: {which!r} is none of {', '.join(WHICH)}")
    if which in ROLES:
        joined = "current_labels JOIN items ON items.id = current_labels.item_id"
        return f"SELECT label_id FROM {joined} WHERE project_id = ? AND role = {ROLES[which]}", [project_id]
    ids = json.dumps(_agreed(store, project_id, which))
    return "SELECT value AS label_id FROM json_each(?)", [ids]


def _agreed(store: Store, project_id: int, which: str) -> list[int]:
    """Return one label for each item whose votes add up to something."""
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
    agreed: list[int] = []
    for _, labels in groupby(rows, key=lambda row: row[0]):
        agreed += _agreed_of(list(labels), which)
    return agreed


def _agreed_of(labels: list[tuple], which: str) -> list[int]:
    """Return the label that stands for one item, if any. labels: (item, is final, is of a check, id, choice)."""
    final = [label_id for _, is_final, _, label_id, _ in labels if is_final]
    votes = [(label_id, choice) for _, is_final, _, label_id, choice in labels if not is_final]
    is_check = labels[0][2]
    if is_check or (final and which == "majority"):
        return final
    choices = Counter(choice for _, choice in votes)
    if which == "unanimous":
        return [votes[0][0]] if len(votes) > 1 and len(choices) == 1 else []
    choice = majority(choices)
    return [label_id for label_id, said in votes if said == choice][:1]


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
