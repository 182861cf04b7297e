"""One generation: which prompts still want responses, what of the answers is stored, which items come of them.

Stores a prompt's answers as soon as they are there. It does not know how answers are fetched, nor who asked.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from errors import AppError, WorkerError
from models.client import Completion
from storage import Prompt, Store
from storage.records import MOST_RANKED
from transfer.candidates.drawing import Drawer, Task, drawn
from transfer.wording import counted

REDRAWS = 4  # how often a response that the prompt has already is drawn anew
FAILURES_IN_A_ROW = 8  # after so many the server is taken for gone

Progress = Callable[[int, int], None]


@dataclass
class _Wanted:
    """A prompt that lacks responses. missing: the indices to draw; own: response ids of this origin, oldest first."""

    prompt: Prompt
    own: list[int]
    missing: list[int]
    arrived: dict[int, tuple[Task, Completion] | None] = field(default_factory=dict)


def pairs_to_show(own: Sequence[int], others: Sequence[int]) -> list[tuple[int, int]]:
    """Return which responses to one prompt are shown as pairs: each of this model's in one pair, in order.

    own: response ids of this model; others: those of anything else. An odd one left over meets the first of its
    own or, when it is alone, the newest of the others.
    """
    pairs = list(zip(own[0::2], own[1::2]))
    if len(own) % 2:
        partner = own[:1] if len(own) > 1 else others[-1:]
        pairs += [(other, own[-1]) for other in partner]
    return pairs


def rankings_to_show(own: Sequence[int]) -> list[tuple[int, ...]]:
    """Return which responses of this model to one prompt are ranked together: as many as can be, three at least."""
    groups = -(-len(own) // MOST_RANKED)
    cuts = [len(own) * number // groups for number in range(groups + 1)] if groups else []
    return [tuple(own[start:end]) for start, end in zip(cuts, cuts[1:]) if end - start >= 3]


class Batch:
    """One generation: which prompts still want what, and the counts for its report."""

    def __init__(
        self, store: Store, project_id: int, drawer: Drawer, model: str, run_id: int | None, per_prompt: int,
        kinds: tuple[str, ...],
    ) -> None:
        self.store, self.project_id, self.drawer = store, project_id, drawer
        self.model, self.run_id, self.per_prompt, self.kinds = model, run_id, per_prompt, kinds
        self.server: str | None = None
        self.counts: Counter[str] = Counter()
        self.failures_in_a_row = 0
        self.failed: dict[int, AppError] = {}

    def run(self, prompts: list[Prompt], progress: Progress, stop: threading.Event) -> None:
        """Draw, store, and draw anew what was identical. Raises the last WorkerError when prompts got no answer."""
        wanted = [self._want(prompt) for prompt in prompts]
        for want in wanted:
            if not want.missing:
                self._make_items(want)
        open_ = {want.prompt.id: want for want in wanted if want.missing}
        self.counts["prompts"], total = len(open_), sum(len(want.missing) for want in open_.values())
        progress(0, total)
        for attempt in range(REDRAWS + 1 if self.drawer.sampling.temperature > 0 else 1):
            self._draw(open_, attempt, lambda: progress(self.counts["responses"], total), stop)
            open_ = {key: want for key, want in open_.items() if want.missing and key not in self.failed}
            if stop.is_set() or not open_:
                break
        self._finish(open_, stop)

    def _draw(self, open_: dict[int, _Wanted], attempt: int, stored: Callable[[], None], stop: threading.Event) -> None:
        """Draw what is missing once. A prompt's answers are stored together, so that their order is always the same."""
        # Of like lengths together: those under way at the same time are decoded in one batch.
        wants = sorted(open_.values(), key=lambda want: sum(len(turn["content"]) for turn in want.prompt.messages))
        tasks = [Task(want.prompt, index, attempt) for want in wants for index in want.missing]
        try:
            for task, answer in drawn(self.drawer, tasks, stop):
                want = open_[task.prompt.id]
                want.arrived[task.index] = self._answered(task, answer)
                if len(want.arrived) == len(want.missing):
                    self._store(want)
                    stored()
        finally:
            for want in open_.values():  # cancelled or failed: keep what came
                if want.arrived:
                    self._store(want)

    def _finish(self, open_: dict[int, _Wanted], stop: threading.Event) -> None:
        if stop.is_set():
            return
        for want in open_.values():  # what is still missing here was identical every time
            self.counts["identical"] += len(want.missing)
            self._make_items(want)
        if self.failed:
            error = list(self.failed.values())[-1]
            raise WorkerError(f"{counted(len(self.failed), 'prompt')} got no answer: {error}") from error

    def _want(self, prompt: Prompt) -> _Wanted:
        origin = (self.model, self.run_id)
        responses = self.store.responses.of_prompt(prompt.id)
        own = [response.id for response in responses if (response.model, response.run_id) == origin]
        return _Wanted(prompt, own, list(range(len(own), self.per_prompt)))

    def _answered(self, task: Task, answer: Completion | Exception) -> tuple[Task, Completion] | None:
        """Return an answer, or None and remember the error; too many errors in a row end the generation."""
        if isinstance(answer, Completion):
            self.failures_in_a_row = 0
            self.counts["tokens"] += answer.completion_tokens
            return task, answer
        if not isinstance(answer, WorkerError):
            raise answer
        self.failures_in_a_row += 1
        self.failed[task.prompt.id] = answer
        # What is wrong with the key or the address is wrong with every request.
        if self.failures_in_a_row >= FAILURES_IN_A_ROW or answer.status in (401, 403, 404):
            raise answer
        return None

    def _store(self, want: _Wanted) -> None:
        """Store what arrived for one prompt, in the order of its indices, and its items once nothing is missing."""
        arrived = [want.arrived[index] for index in sorted(want.arrived)]
        want.arrived.clear()
        with self.store.transaction():
            for task, answer in filter(None, arrived):
                settings = {
                    **asdict(self.drawer.sampling), "seed": self.drawer.seed_of(task),
                    "finish_reason": answer.finish_reason,
                } | ({"server": self.server} if self.server else {})
                response_id, new = self.store.responses.add(
                    want.prompt.id, answer.text, model=self.model, run_id=self.run_id, settings=settings
                ) if answer.text.strip() else (0, False)
                if new:
                    want.own.append(response_id)
                    want.missing.remove(task.index)
                    self.counts["responses"] += 1
            if not want.missing:
                self._make_items(want)

    def _make_items(self, want: _Wanted) -> None:
        groups: list[tuple[int, ...]] = []
        if "pair" in self.kinds:
            known = [response.id for response in self.store.responses.of_prompt(want.prompt.id)]
            groups += pairs_to_show(want.own, [key for key in known if key not in want.own])
        if "single" in self.kinds:
            groups += [(response_id,) for response_id in want.own]
        if "ranking" in self.kinds:
            groups += rankings_to_show(want.own)
        for group in groups:
            _, new = self.store.items.add(self.project_id, want.prompt.id, group)
            self.counts[{1: "singles", 2: "pairs"}.get(len(group), "rankings")] += new
