"""Who is asked for answers, as a person writes it, and by which of the two ways: one model alone, or several together.

Owns where a server's key comes from. It does not know how answers are drawn, nor pages.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import replace

from errors import ConfigError
from models.client import Sampling, Workers
from storage import Project, Store
from transfer.candidates.batch import Progress
from transfer.candidates.generate import GenerateReport, generate
from transfer.candidates.responders import Responder, parse_responders
from transfer.candidates.several import SeveralReport, generate_from

KEY_VARIABLE = "OPENAI_API_KEY"
SERVER_VARIABLE = "OPENAI_BASE_URL"


def ask(
    store: Store, project: Project, workers: Workers, specs: Sequence[str], *, kind: str = "pair", per_prompt: int = 2,
    sampling: Sampling = Sampling(), rule: str | None = None, most: int | None = None, source: str | None = None,
    key_variable: str = KEY_VARIABLE, only_server: str | None = None, progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> GenerateReport | SeveralReport:
    """Draw answers from the models of some specs (`parse_responders`), and make things to label of them.

    rule: None shows each answer in about one pair; else rule, most and source are as in `choose_pairs`.
    key_variable: the environment variable with the key of the server that is asked. only_server: the one address that
    may be sent it; None for any, where who asks is who owns the key.
    Raises ConfigError for what is out of range, or a key that several servers would get, and what `generate` and
    `generate_from` raise.
    """
    default = Responder(sampling=sampling, per_prompt=per_prompt)
    responders = parse_responders(specs, default)
    key, servers = os.environ.get(key_variable, ""), {each.base_url for each in responders if each.base_url}
    if only_server is not None:
        servers &= {only_server.rstrip("/"), f"{only_server.rstrip('/')}/"}
    if key and len(servers) > 1:
        raise ConfigError(
            f"{key_variable} is set, and {len(servers)} servers are named: ask one at a time, so that each gets its own key"
        )
    responders = [replace(each, api_key=key) if each.base_url in servers else each for each in responders]
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
