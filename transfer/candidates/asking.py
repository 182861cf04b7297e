"""Who is asked for answers, as a person writes it, and by which of the two ways: one model alone, or several together.

Owns where a server's key comes from. It does not know how answers are drawn, nor pages.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from errors import ConfigError
from models.client import Sampling, Workers
from storage import Project, Store
from transfer.candidates.batch import Progress
from transfer.candidates.generate import GenerateReport, generate
from transfer.candidates.responders import Responder, parse_responders
from transfer.candidates.several import SeveralReport, generate_from

KEY_VARIABLE = "OPENAI_API_KEY"


def ask(
    store: Store, project: Project, workers: Workers, specs: Sequence[str], *, kind: str = "pair", per_prompt: int = 2,
    sampling: Sampling = Sampling(), rule: str | None = None, most: int | None = None, source: str | None = None,
    key_variable: str = KEY_VARIABLE, progress: Progress | None = None, stop: threading.Event | None = None,
) -> GenerateReport | SeveralReport:
    """Draw answers from the models of some specs (`parse_responders`), and make things to label of them.

    rule: None shows each answer in about one pair; else rule, most and source are as in `choose_pairs`. key_variable: names the environment variable with the key of the
    server that is asked; with several servers a key would go to strangers, so then none is sent.
    Raises ConfigError for what is out of range, and what `generate` and `generate_from` raise.
    """
    responders = parse_responders(specs, Responder(sampling=sampling, per_prompt=per_prompt))
    servers = {responder.base_url for responder in responders if responder.base_url}
    if len(servers) > 1 and os.environ.get(key_variable):
        raise ConfigError(
            f"{key_variable} is set, and {len(servers)} servers are named: ask one at a time, so that each gets its own key"
        )
    if servers and (key := os.environ.get(key_variable, "")):
        default = Responder(sampling=sampling, per_prompt=per_prompt, api_key=key)
        responders = parse_responders(specs, default)
    [first, *others] = responders
    if not others and not first.base_url and (rule, most, source) == (None, None, None):
        return generate(
            store, project, workers, model=first.model, run_id=first.run_id, per_prompt=first.per_prompt,
            sampling=first.sampling, kinds=(kind,), progress=progress, stop=stop,
        )
    if rule is None:
        rule, most = "random", most or (per_prompt if others else max(1, first.per_prompt // 2))
    return generate_from(
        store, project, workers, responders, kinds=(kind,), rule=rule, most=most, source=source or "any",
        seed=sampling.seed or 0, progress=progress, stop=stop,
    )
