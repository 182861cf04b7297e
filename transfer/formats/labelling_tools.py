"""What other labelling tools export: comparisons of two or more answers, by Argilla and by Label Studio.

Owns how these tools name an answer and the one who chose it; every label of a task becomes an opinion. It does not know
which rows are of which format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from transfer.formats.messages import RowError, as_prompt, as_response, kind_of
from transfer.formats.preference import annotator
from transfer.formats.record import Answer, Opinion, Record

Row = dict[str, Any]

PROMPTS = ("prompt", "instruction", "question", "context", "query", "input", "text", "chat")
# response1, response-2, answer_a, generation 1, completion_b …
NUMBERED = re.compile(r"(?:response|answer|generation|completion|output|reply|text)[-_ ]?([1-6a-f])", re.IGNORECASE)
NUMBER = re.compile(r"(?:option|side|item)?[-_ ]?([1-6a-f])(?: is better)?", re.IGNORECASE)
TIES = ("tie", "equal", "both", "both_good", "same", "draw", "similar")
BOTH_BAD = ("both_bad", "both bad", "neither", "none", "bad")
SIDES = {"left": 0, "right": 1}
# Columns of Label Studio's flat exports (JSON-MIN, CSV) that are no label.
LABEL_STUDIO = ("annotation_id", "lead_time", "created_at", "updated_at")


def has_argilla(row: Row) -> bool:
    """Return whether a row looks like a record of Argilla, of the client (nested) or of a data set (flat)."""
    return bool(_argilla_questions(row)) and len(_answer_fields(_argilla_fields(row))) >= 2


def has_label_studio(row: Row) -> bool:
    """Return whether a row looks like a task of Label Studio, whole or flat."""
    if isinstance(row.get("data"), dict) and ("annotations" in row or "completions" in row):
        return True
    return "annotation_id" in row and "lead_time" in row and len(_answer_fields(row)) >= 2


def argilla(row: Row) -> Record:
    """Argilla: a field with the prompt, two or more with answers, and a question of which is best, or a ranking."""
    fields = _argilla_fields(row)
    messages, names, answers = _asked(fields, "fields" if "fields" in row else "")
    opinions: list[Opinion] = []
    for name in row:
        if name.endswith((".responses.users", ".responses.status")) and not isinstance(row[name], (list, type(None))):
            raise RowError(f"the field {name!r} should be a list, not {kind_of(row[name])}", name)
    for question, responses in _argilla_questions(row).items():
        for response in responses:
            if not isinstance(response, dict) or response.get("status") in ("discarded", "draft"):
                continue
            said = _opinion(response.get("value"), names, question)
            if said is not None:
                opinions.append(_by(said, response.get("user_id", response.get("user")), response))
    return Record(messages, answers, tuple(opinions))


def _argilla_fields(row: Row) -> Row:
    fields = row.get("fields")
    return fields if isinstance(fields, dict) else row


def _argilla_questions(row: Row) -> dict[str, list[Any]]:
    """Return the answers of people by question: `responses` of a record, columns of a data set, old or new."""
    nested = row.get("responses")
    if isinstance(row.get("fields"), dict) and isinstance(nested, dict):
        return {name: values for name, values in nested.items() if isinstance(values, list)}
    if isinstance(row.get("fields"), dict) and isinstance(nested, list):  # version 1: one entry for each person
        found: dict[str, list[Any]] = {}
        for entry in nested:
            values = entry.get("values") if isinstance(entry, dict) else None
            for name, value in values.items() if isinstance(values, dict) else ():
                if isinstance(value, dict):
                    found.setdefault(name, []).append({**value, **{key: entry.get(key) for key in ("user_id", "status")}})
        return found
    found = {}
    for name, value in row.items():
        if name.endswith(".responses") and isinstance(value, list):
            people, states = row.get(f"{name}.users") or [], row.get(f"{name}.status") or []
            if not isinstance(people, list) or not isinstance(states, list):
                people, states = [], []  # `argilla` refuses the row
            found[name.removesuffix(".responses")] = [
                {
                    "value": each, "user_id": people[at] if at < len(people) else None,
                    "status": states[at] if at < len(states) else None,
                }
                for at, each in enumerate(value)
            ]
        elif isinstance(value, list) and value and all(isinstance(each, dict) and "status" in each for each in value):
            found[name] = value
    return found


def label_studio(row: Row) -> Record:
    """Label Studio: a task with `data` and `annotations`, or the flat rows of its JSON-MIN and CSV exports."""
    if not isinstance(row.get("data"), dict):
        messages, names, answers = _asked(row, "")
        said = next((found for found in _flat_labels(row, names)), None)
        opinions = (_by(said, row.get("annotator"), row),) if said else ()
        return Record(messages, answers, opinions)
    messages, names, answers = _asked(row["data"], "data")
    done = row.get("annotations", row.get("completions"))
    if not isinstance(done, list):
        raise RowError(f"the field 'annotations' should be a list, not {kind_of(done)}", "annotations")
    found: list[Opinion] = []
    for at, annotation in enumerate(done):
        if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
            raise RowError(f"the field 'annotations[{at}]' should be an object with a 'result'", f"annotations[{at}]")
        if annotation.get("was_cancelled"):
            continue
        for value in _results(annotation["result"]):
            if (said := _opinion(value, names, f"annotations[{at}].result")) is not None:
                found.append(_by(said, annotation.get("completed_by"), annotation))
                break
    return Record(messages, answers, tuple(found))


def _results(results: list[Any]) -> Iterator[Any]:
    for result in results:
        value = result.get("value") if isinstance(result, dict) else None
        if isinstance(value, dict):
            if "selected" in value:
                yield value["selected"]
            elif isinstance(value.get("choices"), list) and value["choices"]:
                yield value["choices"][0]


def _flat_labels(row: Row, names: list[str]) -> Iterator[Opinion]:
    for name, value in row.items():
        if name in LABEL_STUDIO or name in names or name in ("id", "annotator", *PROMPTS):
            continue
        if isinstance(value, str) and (value.lower() in SIDES or value.lower() in (*TIES, *BOTH_BAD)):
            if (said := _opinion(value, names, name)) is not None:
                yield said


def _answer_fields(fields: Row) -> list[str]:
    return sorted((name for name in fields if NUMBERED.fullmatch(name)), key=lambda name: NUMBERED.fullmatch(name)[1].lower())


def _asked(fields: Row, inside: str) -> tuple[list[dict[str, str]], list[str], tuple[Answer, ...]]:
    """Return the prompt, and the names and texts of the answers."""
    at = f"{inside}." if inside else ""
    names = _answer_fields(fields)
    prompt = next((name for name in PROMPTS if name in fields), None)
    if prompt is None or len(names) < 2:
        known = ", ".join(repr(name[:40]) for name in list(fields)[:8]) or "none"
        raise RowError(
            f"it should have a prompt ({', '.join(PROMPTS[:3])} …) and answers (response1, response2 …); it has: {known}",
            inside,
        )
    answers = tuple(Answer(as_response(fields[name], f"{at}{name}")) for name in names)
    return as_prompt(fields[prompt], f"{at}{prompt}"), names, answers


def _opinion(value: Any, names: list[str], field: str) -> Opinion | None:
    """Return what a label says of the answers, or None when it is about something else (a comment, a topic)."""
    if isinstance(value, list):
        return _ranking(value, names, field)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    said = str(value).strip()
    if said.lower() in BOTH_BAD:
        return Opinion("both_bad") if len(names) == 2 else None
    if said.lower() in TIES:
        return Opinion("tie") if len(names) == 2 else None
    if (index := _index(said, names)) is None:
        return None
    if len(names) == 2:
        return Opinion("chosen", chosen=index)
    others = tuple(at for at in range(len(names)) if at != index)
    return Opinion("ranked", tiers=((index,), others))


def _ranking(value: list[Any], names: list[str], field: str) -> Opinion | None:
    """Return a ranking: `[{"value": "response-1", "rank": 1}, …]`, or the names alone, best first."""
    places: dict[int, float] = {}
    for at, each in enumerate(value):
        rank, said = (each.get("rank", at + 1), each.get("value")) if isinstance(each, dict) else (at + 1, each)
        index = _index(str(said), names)
        if index is None or isinstance(rank, bool) or not isinstance(rank, (int, float)):
            return None
        if index in places:
            raise RowError(f"the field {field!r} ranks {str(said)[:40]!r} twice", field)
        places[index] = rank
    if len(places) != len(names):
        return None
    tiers = tuple(
        tuple(index for index in sorted(places) if places[index] == rank) for rank in sorted(set(places.values()))
    )
    if len(names) > 2:
        return Opinion("ranked", tiers=tiers)
    return Opinion("chosen", chosen=tiers[0][0]) if len(tiers) == 2 else Opinion("tie")


def _index(said: str, names: list[str]) -> int | None:
    if said in names:
        return names.index(said)
    if said.lower() in SIDES and len(names) == 2:
        return SIDES[said.lower()]
    found = NUMBERED.fullmatch(said) or NUMBER.fullmatch(said)
    if not found:
        return None
    index = "123456".find(found[1]) if found[1].isdigit() else "abcdef".find(found[1].lower())
    return index if 0 <= index < len(names) else None


def _by(said: Opinion, person: Any, about: Row) -> Opinion:
    """Return an opinion with who said it, when, and how long it took them."""
    if isinstance(person, dict):
        person = person.get("email") or person.get("username") or person.get("id")
    if person is not None and not isinstance(person, (str, int)):
        raise RowError(f"who labelled should be a name or a number, not {kind_of(person)}", "annotator")
    seconds = about.get("lead_time")
    is_time = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 <= seconds < 1e6
    return Opinion(
        said.verdict, annotator(None if person is None else str(person)), said.chosen, said.tiers,
        active_seconds=float(seconds) if is_time else None, created_at=_time(about.get("created_at")),
    )


def _time(value: Any) -> float | None:
    if not isinstance(value, str):
        return None
    try:
        when = datetime.fromisoformat(value.replace("Z", "+00:00"))
        return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        return None


