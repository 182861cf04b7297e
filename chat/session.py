"""One question to several models at once: asked together, streamed side by side, stored as they were said.

Owns the threads that read the answers. Does not know the page, nor how tokens are made: it reads
OpenAI-compatible endpoints.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from chat.answering import Answer, Request, Side
from chat.speakers import DEMO, Speaker, base_speaker, run_speaker
from chat.transcript import Turn, before, history, turns
from chat.votes import settle
from errors import ConfigError
from models.client import Sampling, Workers
from storage import Chat, Store

PAUSE_SECONDS = 0.08  # between two snapshots: 12 a second read as a flow, and a slow phone keeps up
TICK_SECONDS = 0.25  # how often something is yielded while nothing happens, so that a closed page is noticed
PATIENCE_SECONDS = 2.0  # how long a stopped side is waited for
SEED_LIMIT = 2**31


@dataclass(frozen=True)
class Question:
    """What a person asks all sides.

    chat_id: the chat to go on with; None, or a chat with other speakers, begins a new one in project_id.
    speakers: left to right; a blind chat keeps an order of its own. sampling: for all; its seed is drawn at random when
    it is None. system: the system prompt, empty for none. is_blind: nobody is to see who answers before the vote.
    replaces: the number of an earlier question that is asked anew, with all that came after it left out. goes_on: all
    sides go on from the answer that was preferred, if one was. different_seeds: each side draws other random numbers.
    annotator: who asks; a chat that is begun is theirs.
    """

    text: str
    speakers: tuple[Speaker, ...]
    sampling: Sampling = Sampling()
    system: str = ""
    chat_id: int | None = None
    project_id: int | None = None
    is_blind: bool = False
    replaces: int | None = None
    goes_on: bool = True
    different_seeds: bool = False
    annotator: str = ""


@dataclass(frozen=True)
class SideBySide:
    """Where all answers to one question stand at one moment.

    past: what was said in the chat before; question_id: the question's number; answers: left to right.
    """

    chat_id: int
    past: list[Turn]
    question: str
    answers: tuple[Answer, ...]
    question_id: int = 0

    @property
    def is_done(self) -> bool:
        """True when no answer will grow any more."""
        return all(answer.is_done for answer in self.answers)


def ask(store: Store, workers: Workers, question: Question, stop: threading.Event) -> Iterator[SideBySide]:
    """Ask every speaker at once and yield where their answers stand, about 12 times a second.

    stop: ends all answers when it is set; what was written so far is kept. Closing the iterator sets it.
    A side that fails carries its error's text while the others go on. The question, the answers, their model,
    settings, seed and finish reason are in `store.chats` at the end; answers store themselves, and then the labels of
    votes that were given meanwhile, so closing the iterator never waits for the database. Raises ConfigError for an empty question, StorageError when nothing
    could be stored.
    """
    text, system = question.text.strip(), question.system.strip()
    if not text:
        raise ConfigError("Write a message first.")
    chat = _chat_for(store, question)
    past = before(turns(store, chat.id), question.replaces)
    goes_on_from = past[-1].preferred if question.goes_on and past else None
    told = {"replaces": question.replaces, "goes_on_from": goes_on_from}
    question_id = store.chats.add_message(chat.id, "user", text, settings=told)
    changed = threading.Event()
    sides = []
    speaking = _in_order(question, chat)
    for number, (speaker, sampling) in enumerate(zip(speaking, _seeded(question, speaking), strict=True)):
        messages = [{"role": "system", "content": system}] if system else []
        messages += [*history(past, number, goes_on_from), {"role": "user", "content": text}]
        settings = {"question_id": question_id, "system": system, **asdict(sampling)}
        request = Request(speaker, messages, sampling, chat.id, number, settings, partial(settle, store, question_id))
        sides.append(Side(store, workers, request, stop, changed))
    try:
        for side in sides:
            side.start()
        yield from _snapshots(SideBySide(chat.id, past, text, (), question_id), sides, stop, changed)
    finally:
        stop.set()


def compare_once(
    store: Store, workers: Workers, model: str | None, run_id: int | None, prompt: str, sampling: Sampling
) -> dict[str, str | None]:
    """Return {"base": text, "tuned": text} for one prompt, asked together; "tuned" is None without a run.

    model: the base model; None takes the run's, or the demo. Nothing is stored as a chat.
    Raises NotFoundError for an unknown run; ConfigError for an empty prompt, a run that has not finished, or one
    of another base model; ModelError and WorkerError when the model cannot answer.
    """
    if not prompt.strip():
        raise ConfigError("The prompt is empty.")
    chosen: list[Speaker] = [base_speaker(model or DEMO)]
    if run_id is not None:
        run = store.runs.get(run_id)
        if run.state != "finished":
            raise ConfigError(f"Run {run_id} cannot answer: it is {run.state}. `runs` lists the finished ones.")
        if model is not None and model != run.model:
            raise ConfigError(f"Run {run_id} was trained from {run.model!r}, not {model!r}. Choose that one, or none.")
        chosen = [base_speaker(run.model), run_speaker(run)]
    seeded = _seeded(Question(prompt, tuple(chosen), sampling), chosen)
    messages = [{"role": "user", "content": prompt}]
    stop, changed = threading.Event(), threading.Event()
    sides = [
        Side(store, workers, Request(speaker, messages, used), stop, changed)
        for speaker, used in zip(chosen, seeded, strict=True)
    ]
    try:
        for side in sides:
            side.start()
        texts = [side.result() for side in sides]
    finally:
        stop.set()
    return {"base": texts[0], "tuned": texts[1] if run_id is not None else None}


def read_seed(text: str | None) -> int | None:
    """Return the seed a person typed, None for none. Raises ConfigError for anything but a whole number below 2³¹."""
    if not (digits := (text or "").strip()):
        return None
    if not (digits.isascii() and digits.isdigit() and int(digits) < SEED_LIMIT):
        raise ConfigError(f"The seed must be a whole number from 0 to {SEED_LIMIT - 1}, or empty, not {digits!r}.")
    return int(digits)


def _chat_for(store: Store, question: Question) -> Chat:
    """Return the chat a question belongs to, begun now where there is none with its speakers.

    A blind chat ends with its vote, since its models are named then: the next question begins another one, with the
    sides shuffled anew.
    """
    keys = [speaker.key for speaker in question.speakers]
    if question.chat_id is not None:
        chat = store.chats.get(question.chat_id)
        same = sorted(chat.models) == sorted(keys) if chat.is_blind else chat.models == keys
        if same and chat.is_blind == question.is_blind and not (chat.is_blind and store.chats.votes(chat.id)):
            return chat
    settings: dict[str, Any] = {"system": question.system.strip(), **asdict(question.sampling)}
    if question.is_blind:
        random.SystemRandom().shuffle(keys)
    return store.chats.create(
        keys, settings, question.project_id, is_blind=question.is_blind, annotator=question.annotator
    )


def _in_order(question: Question, chat: Chat) -> list[Speaker]:
    """Return the speakers in the order of the chat's sides."""
    by_key = {speaker.key: speaker for speaker in question.speakers}
    return [by_key[key] for key in chat.models]


def _seeded(question: Question, speaking: Sequence[Speaker]) -> list[Sampling]:
    """Return each side's sampling with the seed that is used: the same for all, unless different ones are asked for.

    Where the same speaker is on several sides, these take seeds that follow each other: else they would say the same.
    """
    first = random.randrange(SEED_LIMIT) if question.sampling.seed is None else question.sampling.seed
    seen: Counter[str] = Counter()
    seeded = []
    for number, speaker in enumerate(speaking):
        after = number if question.different_seeds else seen[speaker.key]
        seeded.append(replace(question.sampling, seed=(first + after) % SEED_LIMIT))
        seen[speaker.key] += 1
    return seeded


def _snapshots(
    empty: SideBySide, sides: list[Side], stop: threading.Event, changed: threading.Event
) -> Iterator[SideBySide]:
    """Yield the state of all sides until they are done, or `PATIENCE_SECONDS` after a stop."""
    give_up_at = None
    while True:
        changed.clear()
        snapshot = replace(empty, answers=tuple(side.snapshot() for side in sides))
        if stop.is_set() and not snapshot.is_done:
            give_up_at = give_up_at or time.monotonic() + PATIENCE_SECONDS
            if time.monotonic() > give_up_at:  # a side that is still loading its model hears of it later
                yield replace(snapshot, answers=tuple(answer.stopped() for answer in snapshot.answers))
                return
        yield snapshot
        if snapshot.is_done:
            return
        changed.wait(TICK_SECONDS)
        time.sleep(PAUSE_SECONDS)
