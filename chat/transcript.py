"""A stored chat read back as turns: one question, one answer a side. Does not know how answers are made.

The history that a model sees and what a reloaded page shows both come from here, never from the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from chat.speakers import Speaker, default_pair, find, newest_run_id, speakers
from errors import NotFoundError
from storage import Chat, ChatMessage, ChatVote, Store
from storage.chats import standing

Message = dict[str, str]


@dataclass(frozen=True)
class Turn:
    """What was said to all sides, what each answered (None where no answer was stored yet), and the votes on it.

    goes_on_from: the side whose answer to the question before all sides were told as their own; None: each its own.
    """

    question: ChatMessage
    answers: tuple[ChatMessage | None, ...]
    votes: tuple[ChatVote, ...] = ()

    @property
    def goes_on_from(self) -> int | None:
        """See the class."""
        return (self.question.settings or {}).get("goes_on_from")

    @property
    def preferred(self) -> int | None:
        """The side that the newest vote prefers, None when it prefers none."""
        return self.votes[-1].side if self.votes else None


@dataclass(frozen=True)
class Opened:
    """A project's chat as the page shows it when it opens.

    known: everyone who can be chosen; sides: who answers, left to right; chat: the stored chat, None for a fresh one;
    settings: those of its last answer, empty for a fresh one; newest_run_id: of the project's finished runs.
    """

    known: list[Speaker]
    sides: tuple[Speaker, ...]
    chat: Chat | None
    turns: list[Turn]
    settings: dict[str, Any]
    newest_run_id: int | None
    is_blind: bool = False

    @property
    def hides_names(self) -> bool:
        """True while nobody is to see who answers on which side: in a blind chat before its vote."""
        return self.is_blind and not any(turn.votes for turn in self.turns)


def turns(store: Store, chat_id: int, until: int | None = None) -> list[Turn]:
    """Return the turns of a chat in order, as they stood after the message `until`, or are now. An answer belongs to the question it names, whatever came between.

    A question that was asked anew takes the place of the one it replaces and of all that came after that.
    """
    sides = len(store.chats.get(chat_id).models)
    messages = [each for each in store.chats.messages(chat_id) if until is None or each.id <= until]
    votes = store.chats.votes(chat_id)
    answers = {
        ((message.settings or {}).get("question_id"), message.side): message
        for message in messages
        if message.role == "assistant"
    }
    asked = [message for message in messages if message.role == "user"]
    stand = set(standing((each.id, (each.settings or {}).get("replaces")) for each in asked))
    return [
        Turn(
            question, tuple(answers.get((question.id, side)) for side in range(sides)),
            tuple(vote for vote in votes if vote.question_id == question.id),
        )
        for question in asked if question.id in stand
    ]


def hides_names(store: Store, chat_id: int) -> bool:
    """Say whether nobody is to see who answers in a chat: a blind one before its vote."""
    return store.chats.get(chat_id).is_blind and not store.chats.votes(chat_id)


def before(past: Sequence[Turn], question_id: int | None) -> list[Turn]:
    """Return the turns before a question; all when it is None, or not among them."""
    at = next((place for place, turn in enumerate(past) if turn.question.id == question_id), len(past))
    return list(past[:at])


def history(past: Sequence[Turn], side: int, goes_on_from: int | None = None) -> list[Message]:
    """Return the conversation as one side was told it: user and assistant messages in turn.

    goes_on_from: as in `Turn`, of the question that follows. Whose answer was gone on from, its conversation was too. A
    question that was not answered there is left out: chat templates want the roles to alternate.
    """
    messages: list[Message] = []
    following = [*(turn.goes_on_from for turn in past[1:]), goes_on_from]
    for turn, chosen in zip(reversed(past), reversed(following)):
        side = side if chosen is None else chosen
        answer = turn.answers[side]
        if answer is not None and answer.content.strip() and answer.finish_reason != "error":
            messages.append({"role": "assistant", "content": answer.content})
            messages.append({"role": "user", "content": turn.question.content})
    return messages[::-1]


def asked(past: Sequence[Turn], turn: Turn, side: int) -> list[Message]:
    """Return the conversation that one side answered in a turn, the system prompt first, the question last.

    past: the turns before it. What was left out because it did not fit is left out here too.
    """
    answer = turn.answers[side]
    kept = (answer.settings if answer else None) or {}
    messages = [{"role": "system", "content": kept["system"]}] if kept.get("system") else []
    messages += [*history(past, side, turn.goes_on_from), {"role": "user", "content": turn.question.content}]
    for _ in range(kept.get("left_out", 0) // 2):
        messages = without_oldest_exchange(messages)
    return messages


def without_oldest_exchange(messages: list[Message]) -> list[Message]:
    """Return a conversation without its first question and the answer to it; the last question always stays."""
    start = 1 if messages and messages[0]["role"] == "system" else 0
    return messages if len(messages) - start < 3 else messages[:start] + messages[start + 2 :]


def fresh(store: Store, project_id: int | None, sides: tuple[Speaker, ...], is_blind: bool = False) -> Opened:
    """Return what the page shows before the first message to some speakers; nothing is stored."""
    return Opened(speakers(store, project_id), sides, None, [], {}, newest_run_id(store, project_id), is_blind)


def begin(
    store: Store, project_id: int | None, sides: tuple[Speaker, ...], is_blind: bool = False, annotator: str = ""
) -> Opened:
    """Store an empty chat and return it, so that a reloaded page shows it and not the one before."""
    if is_blind:  # its sides are shuffled with the first message
        return fresh(store, project_id, sides, is_blind)
    chat = store.chats.create([speaker.key for speaker in sides], {}, project_id, annotator=annotator)
    return replace(fresh(store, project_id, sides), chat=chat)


def reopen(store: Store, project_id: int | None, annotator: str = "") -> Opened:
    """Return the newest chat of a project that somebody began, or a fresh one.

    It is a fresh one, with the new model chosen, when a run finished after the newest chat began; and when the
    chat's models are gone.
    """
    empty = fresh(store, project_id, default_pair(store, project_id))
    if project_id is None or not (chats := store.chats.list(project_id, annotator)):
        return empty
    chat, newest = chats[0], empty.newest_run_id
    if newest is not None and (store.runs.get(newest).ended_at or 0.0) > chat.created_at:
        return empty
    try:
        return open_chat(store, project_id, chat.id)
    except NotFoundError:
        return empty


def open_chat(store: Store, project_id: int | None, chat_id: int) -> Opened:
    """Return a stored chat as it stands. Raises NotFoundError when it, or one of its models, is not there any more."""
    chat = store.chats.get(chat_id)
    sides, past = find(store, project_id, *chat.models), turns(store, chat.id)
    settings = next((answer.settings for turn in reversed(past) for answer in turn.answers if answer), None)
    return Opened(
        speakers(store, project_id), sides, chat, past, settings or chat.settings, newest_run_id(store, project_id),
        chat.is_blind,
    )
