"""Responses to a project's prompts, drawn from a model, and the items to label made of them.

Owns who is asked, with which settings, and the report. What was drawn is stored at once: a cancelled, failed or
killed generation goes on where it stopped. It does not know how answers are fetched, nor which are kept.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from errors import ConfigError, ModelError, NotFoundError, WorkerError
from models.client import Endpoint, Sampling, Workers
from storage import Project, Store
from storage.records import KINDS
from transfer.candidates.batch import Batch, Progress
from transfer.candidates.drawing import Drawer, FindEndpoint
from transfer.wording import counted, listed

MAX_PER_PROMPT = 64


@dataclass(frozen=True)
class GenerateReport:
    """What a generation did.

    prompts: prompts that lacked responses. responses, pairs, singles, rankings: how many of each are new.
    identical: responses left out, since the prompt had them already after some redraws. tokens: tokens drawn.
    """

    project: str
    model: str
    run_id: int | None
    prompts: int
    responses: int
    identical: int
    pairs: int
    singles: int
    rankings: int
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
            counted(self.rankings, "new ranking"),
        ]
        found = listed([part for part in news if not part.startswith("0 ")])
        if self.cancelled:
            return f"Cancelled; kept: {found or 'nothing'}."
        if not found and not self.identical:
            return "Nothing to do: every prompt has that many responses of this model."
        same = f" {self.identical:,} left out, since the model kept saying the same." if self.identical else ""
        return f"Generated: {found or 'nothing new'}.{same}"


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
    server: str | None = None,
    make_items: bool = True,
) -> GenerateReport:
    """Draw responses until every prompt has `per_prompt` of this model, and make items to label of them.

    endpoint: where to ask, or a function that says so before every request. model_name: the model's name there.
    model, run_id: what is stored as the responses' origin: the base model and the run of the adapter, if any.
    sampling.seed: the same seed draws the same responses; None draws new ones. kinds: some of "pair", "single" and "ranking".
    prompt_ids: only these prompts. progress: called with responses stored and wanted, in this thread.
    stop: set it to cancel; what is there is kept. server: the address to store beside the settings, without secrets.
    make_items: False only draws, as when several models are paired with each other afterwards.
    Raises ConfigError for settings out of range, NotFoundError when there are no prompts, and WorkerError when
    prompts stayed without answer after retries; what was drawn until then is kept.
    """
    _check(per_prompt, sampling, kinds if make_items else ("single",))
    started, stop = time.monotonic(), stop or threading.Event()
    only = None if prompt_ids is None else set(prompt_ids)
    prompts = [prompt for prompt in store.prompts.list(project.id) if only is None or prompt.id in only]
    if not prompts:
        raise NotFoundError(f"{project.name!r} has no prompts to answer. Write some on the Data tab, or import a file.")
    find = endpoint if callable(endpoint) else lambda: endpoint
    seed = secrets.randbits(31) if sampling.seed is None else sampling.seed
    drawer = Drawer(find, model_name, sampling, seed)
    batch = Batch(store, project.id, drawer, model, run_id, per_prompt, tuple(kinds) if make_items else ())
    batch.server = server
    try:
        batch.run(prompts, progress or (lambda done, total: None), stop)
    except WorkerError as error:
        kept = counted(batch.counts["responses"], "response")
        raise WorkerError(f"{error} {kept} drawn before that are kept; generate again to go on from there.") from error
    names = ("prompts", "responses", "identical", "pairs", "singles", "rankings", "tokens")
    return GenerateReport(
        project.name, model, run_id, **{name: batch.counts[name] for name in names},
        cancelled=stop.is_set(), seconds=round(time.monotonic() - started, 3),
    )


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
    if "ranking" in kinds and per_prompt < 3:
        problems.append(f"a ranking needs at least 3 responses per prompt, not {per_prompt}")
    if problems:
        raise ConfigError(problems)
