"""A match: models answer a list of prompts in the background, and people vote blind through the answers.

Its answers are pairs to label in a project of their own, so the Label tab is the voting booth: shuffled sides, no names,
one key each, several people at once. Does not know how answers are drawn, nor what follows from the votes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain, count
from typing import Any

from chat.speakers import Speaker
from errors import AppError, ConfigError
from models.client import Sampling, Workers
from storage import Project, Store
from storage.records import Message
from transfer.candidates.batch import Progress
from transfer.candidates.generate import generate
from transfer.wording import counted

GUIDELINES = (
    "Which answer is better? You do not see which model wrote it: judge the text alone. Use the tie when you would not"
    " mind which one you got."
)
SOURCE = "arena"
MOST_PROMPTS = 1000
# What all models answer before the next prompts come: enough to fill a batch.
PROMPTS_AT_ONCE = 32


@dataclass(frozen=True)
class MatchReport:
    """What a match has to vote on. prompts: there were; pairs: are new; alike: pairs that both kept saying the same."""

    project: Project
    prompts: int
    pairs: int
    alike: int
    cancelled: bool
    failed: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {**asdict(self), "project": self.project.name}

    def sentence(self) -> str:
        """Return the report in words."""
        said = f"{self.pairs:,} pairs of {self.prompts:,} prompts wait for votes in the project {self.project.name!r}."
        if self.cancelled:
            said = f"Cancelled. {said}"
        if self.alike:
            said += f" In {counted(self.alike, 'case')} both models kept saying the same: nothing to vote on."
        return " ".join([said, *(f"{name} failed: {why.rstrip('.')}." for name, why in self.failed.items())])


def held_out(store: Store, project_id: int, speakers: Sequence[Speaker]) -> list[list[Message]]:
    """Return the conversations of a project that none of the speakers, nor a run it goes on from, has learned from."""
    runs = [run for each in speakers if each.run_id is not None for run in store.runs.ancestors(each.run_id)]
    return [prompt.messages for prompt in store.prompts.untrained(project_id, runs)]


def written(text: str) -> list[list[Message]]:
    """Return the conversations of a text with one prompt a line."""
    lines = dict.fromkeys(line.strip() for line in text.splitlines() if line.strip())
    return [[{"role": "user", "content": line}] for line in lines]


def prepare(
    store: Store, speakers: Sequence[Speaker], prompts: Sequence[list[Message]], most: int | None = None,
    home_id: int | None = None,
) -> Project:
    """Make the project of a match and store its prompts in it, `most` of them, evenly spread.

    speakers: two or more; the first one meets each of the others. home_id: the project for which it is played; the
    newest run's among them when not given. Raises ConfigError when one is there twice, there is no prompt, or too many.
    """
    first, *others = speakers
    problems = [] if len(set(speakers)) == len(speakers) else ["Choose two different models"]
    if not prompts:
        problems.append("There is no prompt to ask. Write some, one a line, or add prompts that neither has been trained on")
    wanted = min(len(prompts), most or len(prompts))
    if wanted > MOST_PROMPTS:
        problems.append(f"A match has at most {MOST_PROMPTS:,} prompts, not {wanted:,}")
    if problems:
        raise ConfigError(f"{'. '.join(problems)}.")
    run_ids = [each.run_id for each in speakers if each.run_id is not None]
    if home_id is None and run_ids:
        home_id = store.runs.get(max(run_ids)).project_id
    taken = [prompts[number * len(prompts) // wanted] for number in range(wanted)]
    name = f"Arena: {first.label} against {' and '.join(each.label for each in others)}, {time.strftime('%Y-%m-%d %H:%M:%S')}"
    with store.transaction():
        known = {each.name for each in store.projects.list()}
        names = chain([name], (f"{name} ({number})" for number in count(2)))
        name = next(each for each in names if each not in known)
        project = store.projects.ensure(name, guidelines=GUIDELINES, is_match=True, home_id=home_id)
        for messages in taken:
            store.prompts.add(project.id, messages, source=SOURCE)
    return project


def play(
    store: Store, workers: Workers, project: Project, speakers: Sequence[Speaker], sampling: Sampling = Sampling(), *,
    progress: Progress | None = None, stop: threading.Event | None = None,
) -> MatchReport:
    """Let models answer the prompts of a match; the first one's answer beside each other's is then something to vote on.

    All answer some prompts before the next ones come, and what was answered is stored at once: a match that is cancelled,
    or in which a prompt cannot be answered, leaves what there is to vote on. The first one answers anew for each other, so
    that no answer that was seen before tells whose it is. Raises AppError when there is nothing to vote on.
    """
    first, *others = speakers
    answers = {each: len(others) if each == first and sampling.temperature > 0 else 1 for each in speakers}
    ids, stop, failed = [prompt.id for prompt in store.prompts.list(project.id)], stop or threading.Event(), {}
    counting = _Counting(progress, sum(answers.values()) * len(ids))
    for start in range(0, len(ids), PROMPTS_AT_ONCE):
        part = ids[start : start + PROMPTS_AT_ONCE]
        for speaker, per_prompt in answers.items():
            if stop.is_set():
                break
            try:
                generate(
                    store, project, workers, model=speaker.model, run_id=speaker.run_id, per_prompt=per_prompt,
                    sampling=sampling, make_items=False, prompt_ids=part, progress=counting.show, stop=stop,
                )
            except ConfigError:
                raise
            except AppError as error:
                failed[speaker.label], last = str(error), error
            counting.through(per_prompt * len(part))
        _make_pairs(store, project, first, others, part)
    pairs = store.items.counts(project.id)["pair"]["total"]
    if failed and not pairs:
        raise last
    alike = 0 if stop.is_set() or failed else len(others) * len(ids) - pairs
    return MatchReport(project, len(ids), pairs, alike, stop.is_set(), failed)


def _make_pairs(store: Store, project: Project, first: Speaker, others: Sequence[Speaker], prompt_ids: Sequence[int]) -> None:
    """Show the first one's answers to some prompts beside the others', a different one beside each where there are enough."""
    for prompt_id in prompt_ids:
        said: dict[tuple[str | None, int | None], list[int]] = {}
        for response in store.responses.of_prompt(prompt_id):
            said.setdefault((response.model, response.run_id), []).append(response.id)
        own = said.get((first.model, first.run_id), [])
        for number, other in enumerate(others):
            theirs = said.get((other.model, other.run_id), [])
            if own and theirs:
                store.items.add(project.id, prompt_id, [own[number % len(own)], theirs[0]])


class _Counting:
    """Counts the answers of all models, one after the other, as one work."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.before = progress, total, 0

    def show(self, done: int, total: int) -> None:
        """Tell of the model at work. total: what it lacked when it began; the others it had."""
        if self.progress is not None:
            self.progress(min(self.total, self.before + done), self.total)

    def through(self, answers: int) -> None:
        """Count a model's part as done, whether or not all came."""
        self.before += answers
        self.show(0, 0)
