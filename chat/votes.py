"""What people prefer in a chat, and the ordinary labels that it becomes. Does not know the page.

A vote is stored when it is given, also before the answers have ended; it becomes labels once they have. Two answers to
the same conversation make a pair. Where the sides were told different conversations, the preferred answer is good and
the other one bad, each to its own.
"""

from __future__ import annotations

import uuid
from itertools import combinations

from chat.thoughts import parted
from chat.transcript import Message, Turn, asked, before, turns
from errors import ConfigError, LabelError
from storage import Chat, ChatMessage, ChatVote, Label, Store

CHOICES = ("A", "B", "C", "D")
TIE, BOTH_BAD = "tie", "both_bad"
FINISHED = "stop"


def vote(store: Store, question_id: int, choice: str, annotator: str) -> ChatVote:
    """Store which answer to a question somebody prefers, and the labels that follow from it already.

    choice: one of CHOICES for a side, TIE or BOTH_BAD. Raises LabelError for another one, without a name, and when a
    blind vote was given before; NotFoundError when there is no such question.
    """
    annotator = _checked(annotator)
    _, _, turn = _turn(store, question_id)
    if choice in CHOICES:
        _check_answered(turn, CHOICES.index(choice))
        given = store.chats.add_vote(question_id, annotator, "chosen", CHOICES.index(choice))
    elif choice in (TIE, BOTH_BAD):
        given = store.chats.add_vote(question_id, annotator, choice)
    else:
        raise LabelError(f"There is no vote {choice!r}: it can be {', '.join(CHOICES)}, {TIE} or {BOTH_BAD}.")
    settle(store, question_id)
    return given


def settle(store: Store, question_id: int) -> list[Label]:
    """Make labels of the votes on a question whose answers have all ended; those that were made stay as they are.

    An answer that is empty, was broken off or cut at the token limit is no example to learn from: it makes no label. What
    only an earlier vote of the same person said is taken back.
    """
    chat, past, turn = _turn(store, question_id)
    if chat.project_id is None or any(answer is None for answer in turn.answers):
        return []
    labels: list[Label] = []
    with store.transaction():
        for given in turn.votes:
            for pair in combinations(range(len(turn.answers)), 2):
                if given.verdict != "chosen" or given.side in pair:
                    labels += _labels(store, chat.project_id, past, turn, given, pair)
            for earlier in store.chats.vote_history(question_id, given.annotator)[:-1]:
                _take_back(store, earlier, len(turn.answers))
    return labels


def settle_chat(store: Store, chat_id: int) -> None:
    """Make the labels of all votes of a chat that have not become any yet, as after a crash."""
    for turn in turns(store, chat_id):
        if turn.votes:
            settle(store, turn.question.id)


def rate(store: Store, question_id: int, side: int, good: bool | None, annotator: str) -> Label:
    """Label one answer good or bad, with the conversation it answered as its prompt; None takes it back.

    Raises LabelError for an answer that has not ended or is empty, ConfigError for a chat without a project.
    """
    answer, item_id = _single(store, question_id, side)
    verdict = {True: "good", False: "bad", None: "undo"}[good]
    return store.labels.add(
        item_id, _checked(annotator), verdict, client_id=_unique(),
        shown_response_ids=store.items.response_ids(item_id), source="chat",
    )


def ratings(store: Store, chat: Chat, past: list[Turn], side: int, annotator: str) -> dict[int, bool]:
    """Return what somebody said of a side's answers, by question: True for good, False for bad. past: the chat's turns."""
    found = {}
    for number, turn in enumerate(past):
        answer = turn.answers[side]
        if answer is None or chat.project_id is None:
            continue
        item_id = store.items.find_single(chat.project_id, asked(past[:number], turn, side), answer.content)
        label = None if item_id is None else store.labels.current_of(item_id, annotator.strip())
        if label is not None and label.verdict in ("good", "bad"):
            found[turn.question.id] = label.verdict == "good"
    return found


def improve(store: Store, question_id: int, side: int, text: str, annotator: str) -> Label:
    """Store a better answer that somebody wrote, preferred to the one it was made from.

    text: without thoughts; those of the answer stay before it. Raises as `rate`, and LabelError when nothing was written
    or changed.
    """
    annotator = _checked(annotator)
    answer, item_id = _single(store, question_id, side)
    thought, said = parted(answer.content)
    if not text.strip() or text.strip() == said.strip():
        raise LabelError("Change the answer first: what you write is stored as better than it.")
    [response_id] = store.items.response_ids(item_id)
    with store.transaction():
        prompt_id = store.items.get(item_id).prompt_id
        better, _ = store.responses.add(prompt_id, thought + text.strip(), author=annotator)
        return store.labels.add(
            item_id, annotator, "edited", client_id=_unique(), shown_response_ids=[response_id],
            chosen_response_id=better, rejected_response_id=response_id, source="chat",
        )


def is_whole(answer: ChatMessage | None) -> bool:
    """Say whether an answer has come to its own end and says something."""
    return answer is not None and answer.finish_reason == FINISHED and bool(answer.content.strip())


def _labels(
    store: Store, project_id: int, past: list[Turn], turn: Turn, given: ChatVote, pair: tuple[int, int]
) -> list[Label]:
    """Make the labels that a vote gives to two of the sides."""
    answers = [turn.answers[side] for side in pair]
    if not all(map(is_whole, answers)):
        return []
    prompts = [asked(past, turn, side) for side in pair]
    if prompts[0] != prompts[1]:
        verdicts = {TIE: (), BOTH_BAD: ("bad", "bad"), "chosen": ("good", "bad") if given.side == pair[0] else ("bad", "good")}
        return [
            _add(store, given, side, *_item(store, project_id, prompt, [answer]), verdict)
            for side, prompt, answer, verdict in zip(pair, prompts, answers, verdicts[given.verdict])
        ]
    if answers[0].content.strip() == answers[1].content.strip():
        return []
    item_id, shown = _item(store, project_id, prompts[0], answers)
    chosen = None if given.side is None else shown[pair.index(given.side)]
    return [_add(store, given, f"{pair[0]}-{pair[1]}", item_id, shown, given.verdict, chosen)]


def _take_back(store: Store, vote_id: int, sides: int) -> None:
    """Undo the labels of a vote that was changed, where they still stand."""
    parts = [*range(sides), *(f"{first}-{second}" for first, second in combinations(range(sides), 2))]
    for part in parts:
        label = store.labels.by_client_id(_client_id(vote_id, part))
        if label is not None and store.labels.current_of(label.item_id, label.annotator) == label:
            store.labels.add(
                label.item_id, label.annotator, "undo", client_id=f"{_client_id(vote_id, part)}-undo",
                shown_response_ids=label.shown_response_ids, source="chat",
            )


def _client_id(vote_id: int, part: object) -> str:
    return f"chat-vote-{vote_id}-{part}"


def _add(
    store: Store, given: ChatVote, part: object, item_id: int, shown: list[int], verdict: str, chosen: int | None = None
) -> Label:
    return store.labels.add(
        item_id, given.annotator, verdict, client_id=_client_id(given.id, part), shown_response_ids=shown,
        chosen_response_id=chosen, source="chat",
    )


def _item(
    store: Store, project_id: int, prompt: list[Message], answers: list[ChatMessage]
) -> tuple[int, list[int]]:
    """Store a conversation, its answers and the item of them; return its id and the responses in the order given."""
    prompt_id, _ = store.prompts.add(project_id, prompt, source="chat")
    shown = []
    for answer in answers:
        settings = dict(answer.settings or {})
        kept = {name: settings.get(name) for name in ("temperature", "top_p", "top_k", "max_tokens", "seed")}
        response_id, _ = store.responses.add(
            prompt_id, answer.content, model=settings.get("model"), run_id=settings.get("run"),
            settings={**kept, "finish_reason": answer.finish_reason, "adapter_hash": settings.get("adapter_hash")},
        )
        shown.append(response_id)
    item_id, _ = store.items.add(project_id, prompt_id, shown)
    return item_id, shown


def _single(store: Store, question_id: int, side: int) -> tuple[ChatMessage, int]:
    """Return one answer and the item that shows it alone."""
    chat, past, turn = _turn(store, question_id)
    answer = turn.answers[side] if side in range(len(turn.answers)) else None
    if answer is None or not answer.content.strip() or answer.finish_reason == "error":
        raise LabelError("There is no whole answer yet: wait for it to end.")
    if chat.project_id is None:
        raise ConfigError("Choose a project at the top first: what you say is kept as its label.")
    return answer, _item(store, chat.project_id, asked(past, turn, side), [answer])[0]


def _turn(store: Store, question_id: int) -> tuple[Chat, list[Turn], Turn]:
    chat = store.chats.get(store.chats.message(question_id).chat_id)
    shown = turns(store, chat.id)
    turn = next((turn for turn in shown if turn.question.id == question_id), None)
    if turn is None:
        raise LabelError("This question was asked anew; vote on the new answers.")
    return chat, before(shown, question_id), turn


def _check_answered(turn: Turn, side: int) -> None:
    """Refuse a vote for a side that has ended without saying anything; one that still answers may be voted for."""
    answer = turn.answers[side] if side < len(turn.answers) else None
    if answer is not None and (answer.finish_reason == "error" or not answer.content.strip()):
        raise LabelError(f"{CHOICES[side]} gave no answer, so it cannot be the better one. Ask again, or vote for another.")


def _checked(annotator: str | None) -> str:
    if not (annotator := (annotator or "").strip()):
        raise LabelError("Write your name at the top of the page first: labels are kept by annotator.")
    return annotator


def _unique() -> str:
    return f"chat-{uuid.uuid4().hex}"
