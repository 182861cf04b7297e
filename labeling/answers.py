"""What an annotator says of a card, in words, and what that means in verdicts and response ids: the only mapping.

"a" and "b" are words for people; what is stored is which response was preferred. It does not know how an answer was
given, nor where it is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from errors import LabelError
from labeling.settings import MOST_REASONS
from storage.records import CLEARLY, FLAG, SKIP, SLIGHTLY, Label

CHOSEN, RANKED, EDITED = "chosen", "ranked", "edited"
SIDES = ("a", "b")
WORDS = {
    "pair": (*SIDES, "tie", "both_bad", EDITED, SKIP, FLAG),
    "single": ("good", "bad", EDITED, SKIP, FLAG),
    "ranking": (RANKED, EDITED, SKIP, FLAG),
}
STRENGTHS = {"slightly": SLIGHTLY, "clearly": CLEARLY}
STRONG_WORDS = (*SIDES, "tie", "both_bad")
MOST_COMMENT_CHARACTERS = 4_000
MOST_EDIT_CHARACTERS = 200_000


@dataclass(frozen=True)
class Edit:
    """A better answer that an annotator wrote. response: id of the response it was made from."""

    response: int
    text: str


@dataclass(frozen=True)
class Answer:
    """What is said of one card: a word of WORDS, and what goes with it.

    strength: "slightly", "clearly" or None, of a pair. reasons: tags of the project. comment: free words.
    ranking: with the word "ranked", response ids in tiers, best first. edit: with the word "edited".
    """

    word: str
    strength: str | None = None
    reasons: tuple[str, ...] = ()
    comment: str = ""
    ranking: tuple[tuple[int, ...], ...] | None = None
    edit: Edit | None = None


def checked(answer: Answer, kind: str, shown_response_ids: Sequence[int]) -> Answer:
    """Return an answer without what cannot be kept (white space around texts). Raises LabelError when it does not fit.

    It must fit the kind of item and the responses that were shown.
    """
    if answer.word not in WORDS[kind]:
        raise LabelError(f"{answer.word!r} is no answer for a {kind}; it can be {', '.join(WORDS[kind])}.")
    if answer.word in SIDES and len(shown_response_ids) != len(SIDES):
        raise LabelError(f"{answer.word!r} needs the two responses that were shown.")
    if answer.strength is not None and (answer.strength not in STRENGTHS or answer.word not in STRONG_WORDS):
        raise LabelError(f"{answer.word!r} cannot be said {answer.strength!r}; a pair's answer can be slightly or clearly.")
    _check_texts(answer)
    if (answer.word == RANKED) != (answer.ranking is not None) or (answer.word == EDITED) != (answer.edit is not None):
        raise LabelError("A ranking goes with the word 'ranked', a better answer with 'edited', and neither with others.")
    if answer.ranking is not None:
        ranked = [response_id for tier in answer.ranking for response_id in tier]
        if sorted(ranked) != sorted(shown_response_ids) or len(answer.ranking) < 2 or not all(answer.ranking):
            raise LabelError("A ranking names each response once, in two places or more.")
    if answer.edit is not None and answer.edit.response not in shown_response_ids:
        raise LabelError(f"Response {answer.edit.response} is not one of those that were shown.")
    return answer


def _check_texts(answer: Answer) -> None:
    if len(answer.reasons) > MOST_REASONS or len(set(answer.reasons)) < len(answer.reasons):
        raise LabelError(f"At most {MOST_REASONS} different reasons go with a label.")
    if len(answer.comment) > MOST_COMMENT_CHARACTERS:
        raise LabelError(f"The comment has {len(answer.comment):,} characters; at most {MOST_COMMENT_CHARACTERS:,}.")
    texts = [answer.comment, *answer.reasons]
    if answer.edit is not None:
        texts.append(answer.edit.text)
        if not answer.edit.text.strip():
            raise LabelError("The better answer is empty. Write one, or skip the item.")
        if len(answer.edit.text) > MOST_EDIT_CHARACTERS:
            raise LabelError(f"The better answer is longer than {MOST_EDIT_CHARACTERS:,} characters.")
    for text in texts:
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise LabelError("A text has characters that cannot be stored; write it again.")


def meaning(answer: Answer, shown_response_ids: Sequence[int]) -> dict[str, Any]:
    """Return the fields of a `Label` that a checked answer means, for responses shown in that order.

    Without the response that an edit makes: it has no id yet.
    """
    fields = {"reasons": answer.reasons, "comment": answer.comment.strip(), "strength": STRENGTHS.get(answer.strength)}
    if answer.word in SIDES:
        return {"verdict": CHOSEN, "chosen_response_id": shown_response_ids[SIDES.index(answer.word)], **fields}
    if answer.edit is not None:
        return {"verdict": EDITED, "rejected_response_id": answer.edit.response, **fields}
    return {"verdict": answer.word, "ranking": answer.ranking, **fields}


def said(label: Label, edited_text: str | None = None) -> Answer:
    """Return the answer that a label was given with: the way back from `meaning`. edited_text: of the edit it names."""
    word = label.verdict
    if word == CHOSEN:
        word = SIDES[label.shown_response_ids.index(label.chosen_response_id)]
    strength = next((name for name, value in STRENGTHS.items() if value == label.strength), None)
    ranking = None if label.ranking is None else tuple(tuple(tier) for tier in label.ranking)
    edit = None if word != EDITED else Edit(label.rejected_response_id, edited_text or "")
    return Answer(word, strength, tuple(label.reasons), label.comment, ranking, edit)
