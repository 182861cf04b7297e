"""Every time somebody preferred one model's answer to another's: in chats, and by labels of pairs.

A pair's label is a comparison of models when its two responses are of two different ones. Does not know what is made of
them, nor which of them say nothing about the models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.database import Store


@dataclass(frozen=True)
class Compared:
    """One of the two answers of a comparison.

    model: the speaker's name, "base:<model>" or "run-<id>". finish_reason: None where it is not known.
    """

    model: str
    text: str
    finish_reason: str | None = None


@dataclass(frozen=True)
class Comparison:
    """What somebody said of two models' answers to the same question.

    verdict: "first", "second", "tie" or "both_bad". is_blind: given without knowing the models. source: "chat" or
    "label". reference: the number of the vote, or of the label.
    """

    first: Compared
    second: Compared
    verdict: str
    annotator: str
    is_blind: bool
    source: str
    reference: int
    created_at: float


class Comparisons:
    """The comparisons of models that a store holds."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def of_models(self, project_id: int | None = None) -> Iterator[Comparison]:
        """Yield a project's comparisons, those of its matches among them, or all; those of chats first, each oldest first.

        A vote for one of several answers is a comparison of it with each other one. Items that came from a chat's vote are
        no labels here: the vote counts already, its models have been named, and a text that two models say is kept as
        the first one's.
        """
        yield from self._of_chats(project_id)
        yield from self._of_labels(project_id)

    def _of_chats(self, project_id: int | None) -> Iterator[Comparison]:
        rows = self.store.db.conn.execute(
            """
            SELECT chat_votes.id, chat_votes.annotator, verdict, chat_votes.side, chat_votes.is_blind, chat_votes.created_at,
                   (SELECT json_group_array(json_array(answer.side, answer.model, answer.content, answer.finish_reason))
                    FROM chat_messages AS answer WHERE answer.chat_id = question.chat_id AND answer.role = 'assistant'
                        AND json_extract(answer.settings, '$.question_id') = question.id)
            FROM chat_votes JOIN chat_messages AS question ON question.id = question_id
            JOIN chats ON chats.id = question.chat_id
            WHERE (:project IS NULL OR chats.project_id = :project) AND chat_votes.id IN (
                SELECT max(id) FROM chat_votes GROUP BY question_id, annotator)
            ORDER BY chat_votes.id
            """,
            {"project": project_id},
        )
        for vote_id, annotator, verdict, chosen, is_blind, created_at, answers in rows:
            sides = {side: Compared(*answer) for side, *answer in sorted(json.loads(answers))}
            for first, second in combinations(sides, 2):
                if verdict == "chosen" and chosen not in (first, second):
                    continue  # of two that were not preferred, nothing is said
                said = ("first" if chosen == first else "second") if verdict == "chosen" else verdict
                yield Comparison(
                    sides[first], sides[second], said, annotator, bool(is_blind), "chat", vote_id, created_at
                )

    def _of_labels(self, project_id: int | None) -> Iterator[Comparison]:
        rows = self.store.db.conn.execute(
            """
            SELECT labels.id, labels.annotator, verdict, chosen_response_id = one.id, labels.created_at,
                   one.model, one.run_id, one.text, one.settings, two.model, two.run_id, two.text, two.settings
            FROM items
            JOIN current_labels ON current_labels.item_id = items.id AND current_labels.role = 'vote'
            JOIN labels ON labels.id = label_id AND labels.source <> 'chat' AND verdict IN ('chosen', 'tie', 'both_bad')
            JOIN item_responses AS a ON a.item_id = items.id AND a.position = 0
            JOIN item_responses AS b ON b.item_id = items.id AND b.position = 1
            JOIN responses AS one ON one.id = a.response_id JOIN responses AS two ON two.id = b.response_id
            WHERE items.kind = 'pair' AND is_check = 0 AND (:project IS NULL OR items.project_id IN (
                    SELECT id FROM projects WHERE :project IN (id, home_id)))
                AND one.model IS NOT NULL AND two.model IS NOT NULL
                AND (one.model <> two.model OR one.run_id IS NOT two.run_id)
                AND NOT EXISTS (SELECT 1 FROM labels AS said WHERE said.item_id = items.id AND said.source = 'chat')
            ORDER BY labels.id
            """,
            {"project": project_id},
        )
        for label_id, annotator, verdict, is_first, created_at, *answers in rows:
            said = ("first" if is_first else "second") if verdict == "chosen" else verdict
            first, second = _compared(*answers[:4]), _compared(*answers[4:])
            yield Comparison(first, second, said, annotator, True, "label", label_id, created_at)


def _compared(model: str, run_id: int | None, text: str, settings: str | None) -> Compared:
    kept: dict[str, Any] = json.loads(settings) if settings else {}
    return Compared(f"base:{model}" if run_id is None else f"run-{run_id}", text, kept.get("finish_reason"))
