"""Rows that rate answers instead of parting them in two: Alpaca, UltraFeedback, the trees of OpenAssistant.

Owns what a score or a place becomes: the better of two answers, or a ranking of three to six. It does not know which rows
are of which format.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import isfinite
from typing import Any

from transfer.formats.messages import Message, RowError, Unusable, as_messages, as_prompt, as_response, as_text, kind_of
from transfer.formats.preference import judged
from transfer.formats.record import Answer, Opinion, Reading, Record

Row = dict[str, Any]

MOST_RANKED = 6
# AlpacaFarm's `preference`: the number of the better output, as text in a table.
PREFERRED = {"1": ("chosen", 0), "2": ("chosen", 1), "0": ("tie", 0)}
# UltraFeedback's overall mark; older copies have only the marks of each aspect, which are averaged.
SCORES = ("overall_score", "score", "rating")
SCORE = "fine-grained_score"
MAX_NODES = 10_000


def ranked(messages: list[Message], answers: Sequence[tuple[Answer, float]]) -> Record | Reading:
    """Return a record of answers with scores, higher is better: a pair, or a ranking of at most six.

    Answers that say the same count once, with their best score; of more than six the best three and the worst three
    are kept. Raises Unusable with fewer than two different ones.
    """
    best: dict[str, tuple[Answer, float]] = {}
    for answer, score in sorted(answers, key=lambda each: -each[1]):
        if answer.text.strip():
            best.setdefault(answer.text.strip(), (answer, score))
    kept = list(best.values())
    if len(kept) < 2:
        raise Unusable("with fewer than two different answers")
    left_out = []
    if len(kept) > MOST_RANKED:
        left_out = ["with more than six answers (the best and the worst three are kept)"]
        kept = kept[: MOST_RANKED // 2] + kept[-MOST_RANKED // 2:]
    if len(kept) == 2:
        opinion = Opinion("chosen", chosen=0) if kept[0][1] > kept[1][1] else Opinion("tie")
    else:
        places = groupby(range(len(kept)), key=lambda index: kept[index][1])
        opinion = Opinion("ranked", tiers=tuple(tuple(indices) for _, indices in places))
    return Reading([Record(messages, tuple(answer for answer, _ in kept), (opinion,))], left_out)


def alpaca(row: Row) -> Record:
    """Alpaca: `instruction`, `input`, and `output`; or two outputs, the better one first, or `chosen` and `rejected`.

    `system` and `history` (pairs of question and answer) go before, as in LLaMA-Factory; `output_1`, `output_2` and
    `preference` are AlpacaFarm's.
    """
    messages = _history(row)
    asked = [as_text(row["instruction"], "instruction"), as_text(row.get("input") or "", "input")]
    messages.append({"role": "user", "content": "\n\n".join(part for part in asked if part.strip())})
    if "chosen" in row and "rejected" in row:
        return judged(messages, (as_response(row["chosen"], "chosen"), as_response(row["rejected"], "rejected")), "chosen")
    if "output_1" in row and "output_2" in row:
        texts = tuple(as_response(row[name], name) for name in ("output_1", "output_2"))
        said = str(row.get("preference", "")).removesuffix(".0")
        if said not in ("", "None", *PREFERRED):
            raise RowError(f"the field 'preference' should be 1 or 2, not {said[:40]!r}", "preference")
        verdict, preferred = PREFERRED.get(said, (None, 0))
        return judged(messages, texts, verdict, preferred)
    output = row.get("output")
    if isinstance(output, list):
        if len(output) != 2:
            raise Unusable("whose outputs are not two: which is the better one is not said")
        return judged(messages, tuple(as_response(each, f"output[{at}]") for at, each in enumerate(output)), "chosen")
    if output is None or output == "":
        return Record(messages)
    return judged(messages, (as_response(output, "output"),), None)


def _history(row: Row) -> list[Message]:
    messages: list[Message] = []
    if row.get("system"):
        messages.append({"role": "system", "content": as_text(row["system"], "system")})
    history = row.get("history") or []
    if not isinstance(history, list):
        raise RowError(f"the field 'history' should be a list of questions and answers, not {kind_of(history)}", "history")
    for at, turn in enumerate(history):
        if not isinstance(turn, list) or len(turn) != 2:
            raise RowError(f"the field 'history[{at}]' should be a question and its answer", f"history[{at}]")
        for role, text in zip(("user", "assistant"), turn):
            messages.append({"role": role, "content": as_text(text, f"history[{at}]")})
    return messages


def ultrafeedback(row: Row) -> Record | Reading:
    """UltraFeedback: `instruction` (or `prompt`) and `completions`, each a `response` with its model and a score."""
    name = "instruction" if "instruction" in row else "prompt"
    messages = as_prompt(row[name], name)
    completions = row["completions"]
    if not isinstance(completions, list):
        raise RowError(f"the field 'completions' should be a list, not {kind_of(completions)}", "completions")
    answers = []
    for at, completion in enumerate(completions):
        field = f"completions[{at}]"
        if not isinstance(completion, dict) or "response" not in completion:
            raise RowError(f"the field {field!r} should be an object with a 'response'", field)
        model = completion.get("model")
        answer = Answer(
            as_response(completion["response"], f"{field}.response"),
            model=as_text(model, f"{field}.model") if model is not None else None,
        )
        answers.append((answer, _score(completion, field)))
    return ranked(messages, answers)


def _score(completion: Row, field: str) -> float:
    for name in (SCORE, *SCORES):
        if completion.get(name) is not None:
            return _number(completion[name], f"{field}.{name}")
    marks = completion.get("annotations")
    rated = [mark for mark in marks.values() if isinstance(mark, dict)] if isinstance(marks, dict) else []
    numbers = [
        _number(mark["Rating"], f"{field}.annotations") for mark in rated if str(mark.get("Rating", "N/A")) != "N/A"
    ]
    if not numbers:
        raise RowError(f"the field {field!r} has no score ({SCORE}, {', '.join(SCORES)} or annotations)", field)
    return sum(numbers) / len(numbers)


def _number(value: Any, field: str) -> float:
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        number = None
    if number is None or not isfinite(number):
        raise RowError(f"the field {field!r} should be a number, not {kind_of(value)}", field)
    return number


def conversation_tree(row: Row) -> Reading:
    """OpenAssistant's trees: each message of the user whose answers have a `rank` (0 is the best) gives a record.

    Deleted and spam messages are left out, with what follows them. Raises RowError for a tree of more than 10,000.
    """
    records, left_out = [], []
    waiting: list[tuple[Any, list[Message], str]] = [(row["prompt"], [], "prompt")]
    for _ in range(MAX_NODES):
        if not waiting:
            return Reading(records, left_out)
        node, before, field = waiting.pop()
        messages, replies = _node(node, before, field)
        if node.get("deleted") or (node.get("labels") or {}).get("spam", {}).get("value") == 1.0:
            continue
        waiting += [(reply, messages, f"{field}.replies[{at}]") for at, reply in reversed(list(enumerate(replies)))]
        if messages[-1]["role"] != "user" or not replies:
            continue
        places = [(reply, reply.get("rank")) for reply in replies if isinstance(reply, dict) and not reply.get("deleted")]
        answers = [
            (Answer(as_text(reply.get("text"), f"{field}.replies.text")), -_number(place, f"{field}.replies.rank"))
            for reply, place in places if place is not None
        ]
        try:
            one = ranked(messages, answers)
            records += one.records
            left_out += one.left_out
        except Unusable:
            left_out.append("or parts of a tree with fewer than two ranked answers")
    raise RowError(f"its tree has more than {MAX_NODES:,} messages")


def _node(node: Any, before: list[Message], field: str) -> tuple[list[Message], list[Any]]:
    if not isinstance(node, dict):
        raise RowError(f"the field {field!r} should be a message with a text and a role, not {kind_of(node)}", field)
    labels, spam = node.get("labels"), None
    if isinstance(labels, dict):
        spam = labels.get("spam")
    if not isinstance(labels, (dict, type(None))) or not isinstance(spam, (dict, type(None))):
        raise RowError(f"the field '{field}.labels' should be an object of objects", f"{field}.labels")
    replies = node.get("replies") or []
    if not isinstance(replies, list):
        raise RowError(f"the field '{field}.replies' should be a list, not {kind_of(replies)}", f"{field}.replies")
    said = as_messages([{"role": node.get("role"), "content": node.get("text")}], field)
    return [*before, *said], replies
