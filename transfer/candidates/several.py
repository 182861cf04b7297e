"""Responses of several models to the same prompts, and the items that show them together.

Models are asked one after another. It does not know how one model's answers are drawn.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from errors import AppError, ConfigError
from models.client import Endpoint, Workers
from storage import Project, Store
from storage.records import KINDS
from transfer.candidates.batch import Progress, rankings_to_show
from transfer.candidates.generate import GenerateReport, generate, generate_at
from transfer.candidates.pairing import RULES, SOURCES, Candidate, choose_pairs
from transfer.candidates.responders import Responder, shown_url
from transfer.wording import counted, listed


@dataclass(frozen=True)
class SeveralReport:
    """What each model gave, which failed and why, and the new items by kind."""

    models: dict[str, GenerateReport]
    failed: dict[str, str]
    items: dict[str, int]
    cancelled: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)

    def sentence(self) -> str:
        """Return the report in words."""
        news = [f"{counted(report.responses, 'new response')} of {name}" for name, report in self.models.items()]
        news += [counted(number, f"new {kind}") for kind, number in self.items.items() if number]
        said = f"{'Cancelled; kept' if self.cancelled else 'Generated'}: {listed(news) or 'nothing'}."
        return " ".join([said, *(f"{name} failed: {why.rstrip('.')}." for name, why in self.failed.items())])


def generate_from(
    store: Store, project: Project, workers: Workers, responders: Sequence[Responder], *,
    kinds: Sequence[str] = ("pair",), rule: str = "all", most: int | None = None, source: str = "any", seed: int = 0,
    prompt_ids: Iterable[int] | None = None, progress: Progress | None = None, stop: threading.Event | None = None,
) -> SeveralReport:
    """Draw from every model, then make items of all of their responses; rule, most, source, seed as in `choose_pairs`.
    prompt_ids: ask only these.

    A text that two models say is stored once, as the earlier model's; the later one draws anew. A model that fails is
    named in the report and the others go on. Raises ConfigError for settings and the error itself when all failed.
    """
    stop = stop or threading.Event()
    names = [responder.name for responder in responders]
    problems = [] if responders else ["name at least one model"]
    if len(set(names)) < len(names):
        problems.append("name each model once")
    if not kinds or set(kinds) - set(KINDS) or rule not in RULES or source not in SOURCES:
        problems.append(f"kinds should be of {', '.join(KINDS)}; rule of {', '.join(RULES)}; source of {', '.join(SOURCES)}")
    if problems:
        raise ConfigError(problems)
    reports, failed = {}, {}
    for responder in responders:
        if stop.is_set():
            break
        try:
            reports[responder.name] = _ask(store, project, workers, responder, prompt_ids, progress, stop)
        except ConfigError:
            raise
        except AppError as error:
            last, text = error, str(error)
            if responder.base_url:  # it may hold a password
                text = text.replace(responder.base_url.rstrip("/"), shown_url(responder.base_url))
            failed[responder.name] = text
    if failed and not reports:
        raise type(last)("; ".join(f"{name}: {why}" for name, why in failed.items()))
    items = {} if stop.is_set() else make_items(store, project, responders, kinds, (rule, most, source, seed))
    return SeveralReport(reports, failed, items, stop.is_set())


def _ask(store, project, workers, responder: Responder, prompt_ids, progress, stop) -> GenerateReport:  # noqa: ANN001
    options = {
        "per_prompt": responder.per_prompt, "sampling": responder.sampling, "progress": progress, "stop": stop,
        "make_items": False, "prompt_ids": prompt_ids,
    }
    if not responder.base_url:
        return generate(store, project, workers, model=responder.model, run_id=responder.run_id, **options)
    return generate_at(
        store, project, Endpoint(responder.base_url, responder.api_key), model=responder.name,
        model_name=responder.model, server=shown_url(responder.base_url), **options,
    )


def make_items(
    store: Store, project: Project, responders: Sequence[Responder], kinds: Sequence[str],
    how: tuple[str, int | None, str, int],
) -> dict[str, int]:
    """Make items of what some models have answered, those that are there already left alone; return the new ones by kind.

    how: rule, most, source and seed as in `choose_pairs`.
    """
    origins = {
        (store.runs.get(one.run_id).model if one.run_id is not None else one.name, one.run_id) for one in responders
    }
    counts: Counter[str] = Counter()
    for prompt in store.prompts.list(project.id):
        known = store.responses.of_prompt(prompt.id)
        ours = [Candidate(r.id, r.text, (r.model, r.run_id)) for r in known if (r.model, r.run_id) in origins]
        groups = choose_pairs(ours, *how) if "pair" in kinds else []
        groups += [(one.id,) for one in ours] if "single" in kinds else []
        groups += rankings_to_show([one.id for one in ours]) if "ranking" in kinds else []
        with store.transaction():
            for group in groups:
                _, new = store.items.add(project.id, prompt.id, group)
                counts[{1: "single", 2: "pair"}.get(len(group), "ranking")] += new
    return dict(counts)
