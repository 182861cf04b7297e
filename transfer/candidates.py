"""Responses to a project's prompts, drawn from a model, and the items to label made of them.

Owns how many responses a prompt gets, which are left out, and which are shown together. What was drawn is stored
at once: a cancelled, failed or killed run goes on where it stopped. It does not know how answers are fetched.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from errors import AppError, ConfigError, ModelError, NotFoundError, WorkerError
from models.client import Completion, Endpoint, Sampling, Workers
from storage import Project, Prompt, Store
from transfer.drawing import Drawer, FindEndpoint, Task, drawn
from transfer.wording import counted, listed

REDRAWS = 4  # how often a response that the prompt has already is drawn anew
MAX_PER_PROMPT = 64
FAILURES_IN_A_ROW = 8
KINDS = ("pair", "single")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class GenerateReport:
    """What a generation did.

    prompts: prompts that lacked responses. responses, pairs, singles: how many of each are new. identical:
    responses left out, since the prompt had them already after some redraws. tokens: tokens drawn.
    """

    project: str
    model: str
    run_id: int | None
    prompts: int
    responses: int
    identical: int
    pairs: int
    singles: int
    tokens: int
    cancelled: bool
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)

    def sentence(self) -> str:
        """Return the report in words."""
        news = [
            counted(self.responses, "new response"), counted(self.pairs, "new pair"),
            counted(self.singles, "new single response to label", "new single responses to label"),
        ]
        found = listed([part for part in news if not part.startswith("0 ")])
        if self.cancelled:
            return f"Cancelled; kept: {found or 'nothing'}."
        if not found and not self.identical:
            return "Nothing to do: every prompt has that many responses of this model."
        same = f" {self.identical:,} left out, since the model kept saying the same." if self.identical else ""
        return f"Generated: {found or 'nothing new'}.{same}"


@dataclass
class _Wanted:
    """A prompt that lacks responses. missing: the indices to draw; own: response ids of this origin, oldest first."""

    prompt: Prompt
    own: list[int]
    missing: list[int]
    arrived: dict[int, tuple[Task, Completion] | None] = field(default_factory=dict)


def generate(
    store: Store, project: Project, workers: Workers, *, model: str = "demo", run_id: int | None = None, **options: Any
) -> GenerateReport:
    """Draw responses from a model of this machine: a base model, or a finished run's tuned one.

    model: as the user named it: "demo", a folder or a hub name; a run brings its own. options: as in `generate_at`.
    Raises ModelError when the model or the run's adapter cannot be used, and what `generate_at` raises.
    """
    if run_id is not None:
        run = store.runs.get(run_id)
        if run.adapter is None:
            raise ModelError(f"Run {run_id} is {run.state} and has no adapter. Choose a run that has finished.")
        model = run.model
    name = "base" if run_id is None else f"run-{run_id}"
    return generate_at(
        store, project, lambda: workers.endpoint(model), model=model, model_name=name, run_id=run_id, **options
    )


def generate_at(
    store: Store,
    project: Project,
    endpoint: Endpoint | FindEndpoint,
    *,
    model: str,
    model_name: str,
    run_id: int | None = None,
    per_prompt: int = 2,
    sampling: Sampling = Sampling(),
    kinds: Sequence[str] = ("pair",),
    prompt_ids: Iterable[int] | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> GenerateReport:
    """Draw responses until every prompt has `per_prompt` of this model, and make items to label of them.

    endpoint: where to ask, or a function that says so before every request. model_name: the model's name there.
    model, run_id: what is stored as the responses' origin: the base model and the run of the adapter, if any.
    sampling.seed: the same seed draws the same responses; None draws new ones. kinds: "pair" and/or "single".
    prompt_ids: only these prompts. progress: called with responses stored and wanted, in this thread.
    stop: set it to cancel; what is there is kept.
    Raises ConfigError for settings out of range, NotFoundError when there are no prompts, and WorkerError when
    prompts stayed without answer after retries; what was drawn until then is kept.
    """
    _check(per_prompt, sampling, kinds)
    started, stop = time.monotonic(), stop or threading.Event()
    only = None if prompt_ids is None else set(prompt_ids)
    prompts = [prompt for prompt in store.prompts.list(project.id) if only is None or prompt.id in only]
    if not prompts:
        raise NotFoundError(f"{project.name!r} has no prompts to answer. Write some on the Data tab, or import a file.")
    find = endpoint if callable(endpoint) else lambda: endpoint
    seed = secrets.randbits(31) if sampling.seed is None else sampling.seed
    drawer = Drawer(find, model_name, sampling, seed)
    batch = _Batch(store, project.id, drawer, model, run_id, per_prompt, tuple(kinds))
    try:
        batch.run(prompts, progress or (lambda done, total: None), stop)
    except WorkerError as error:
        kept = counted(batch.counts["responses"], "response")
        raise WorkerError(f"{error} {kept} drawn before that are kept; generate again to go on from there.") from error
    names = ("prompts", "responses", "identical", "pairs", "singles", "tokens")
    return GenerateReport(
        project.name, model, run_id, **{name: batch.counts[name] for name in names},
        cancelled=stop.is_set(), seconds=round(time.monotonic() - started, 3),
    )


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


def _check(per_prompt: int, sampling: Sampling, kinds: Sequence[str]) -> None:
    problems = []
    if not 1 <= per_prompt <= MAX_PER_PROMPT:
        problems.append(f"responses per prompt should be 1 to {MAX_PER_PROMPT}, not {per_prompt}")
    if not 0 <= sampling.temperature <= 5:
        problems.append(f"temperature should be 0 to 5, not {sampling.temperature:g}")
    if sampling.temperature == 0 and per_prompt > 1:
        problems.append("at temperature 0 a model always says the same: ask for 1 response, or a higher temperature")
    if not kinds or set(kinds) - set(KINDS):
        problems.append(f"kinds should be of {', '.join(KINDS)}, not {', '.join(kinds) or 'none'}")
    if problems:
        raise ConfigError(problems)


class _Batch:
    """One generation: which prompts still want what, and the counts for its report."""

    def __init__(
        self, store: Store, project_id: int, drawer: Drawer, model: str, run_id: int | None, per_prompt: int,
        kinds: tuple[str, ...],
    ) -> None:
        self.store, self.project_id, self.drawer = store, project_id, drawer
        self.model, self.run_id, self.per_prompt, self.kinds = model, run_id, per_prompt, kinds
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
        for attempt in range(REDRAWS + 1 if self.drawer.sampling.temperature > 0 else 1):
            self._draw(open_, attempt, lambda: progress(self.counts["responses"], total), stop)
            open_ = {key: want for key, want in open_.items() if want.missing and key not in self.failed}
            if stop.is_set() or not open_:
                break
        self._finish(open_, stop)

    def _draw(self, open_: dict[int, _Wanted], attempt: int, stored: Callable[[], None], stop: threading.Event) -> None:
        """Draw what is missing once. A prompt's answers are stored together, so that their order is always the same."""
        tasks = [Task(want.prompt, index, attempt) for want in open_.values() for index in want.missing]
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
        if self.failures_in_a_row >= FAILURES_IN_A_ROW:
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
                }
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
        for group in groups:
            _, new = self.store.items.add(self.project_id, want.prompt.id, group)
            self.counts["pairs" if len(group) == 2 else "singles"] += new
