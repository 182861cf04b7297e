"""Who answers: a model of this machine or one at an OpenAI-compatible server, and how it is written on one line.

Owns the spec's grammar. It does not know how answers are fetched or stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit, urlunsplit

from errors import ConfigError
from models.client import Sampling

_SAMPLING = {"temperature": float, "top_p": float, "top_k": int, "max_tokens": int, "seed": int}


@dataclass(frozen=True)
class Responder:
    """One model that is asked.

    model: its name at the server, or the base model here: "demo", a folder or a hub name. run_id: a finished run,
    which brings its own model. base_url: an OpenAI-compatible server; None is this machine. per_prompt: answers to
    each prompt. api_key: for a server; kept in memory only and never shown.
    """

    model: str = "demo"
    run_id: int | None = None
    base_url: str | None = field(default=None, repr=False)  # it may hold a password
    sampling: Sampling = Sampling()
    per_prompt: int = 2
    api_key: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """Return how it is called in reports, without any secret of its address."""
        if self.run_id is not None:
            return f"run-{self.run_id}"
        return f"{self.model}@{shown_url(self.base_url)}" if self.base_url else self.model


def shown_url(base_url: str) -> str:
    """Return an address without user, password, query and fragment."""
    parts = urlsplit(base_url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def parse_responders(specs: Sequence[str], default: Responder = Responder()) -> list[Responder]:
    """Read specs such as `demo`, `run-3;n=4` and `NAME@http://127.0.0.1:8000/v1;temperature=0.7;seed=1`.

    An `@` starts an address only before `http://` or `https://`, so names and folders may hold one. default: gives what
    a spec does not say. Raises one ConfigError that lists the problems of all specs.
    """
    problems: list[str] = []
    found = [_parse(spec, default, problems) for spec in specs]
    if problems:
        raise ConfigError(problems)
    return found


def _parse(spec: str, default: Responder, problems: list[str]) -> Responder:
    who, *options = [part.strip() for part in spec.split(";")]
    model, base_url, run_id = who, None, None
    starts = [at for at in (who.find("@http://"), who.find("@https://")) if at >= 0]
    if starts:
        model, base_url = who[: min(starts)], who[min(starts) + 1 :]
    # A spec may hold a password in its address: messages show only this.
    label = f"{model}@{_shown_or_nothing(base_url)}" if base_url else who
    if base_url and not _shown_or_nothing(base_url):
        problems.append(f"{label!r}: the address after @ has no host or a wrong port")
    if not model:
        problems.append(f"{label!r}: name a model, such as demo, run-3 or NAME@http://127.0.0.1:8000/v1")
    elif not base_url and model.startswith("run-") and model[4:].isascii() and model[4:].isdigit():
        run_id = int(model[4:])
    values, per_prompt = {}, default.per_prompt
    for option in filter(None, options):
        key, _, text = (part.strip() for part in option.partition("="))
        if key != "n" and key not in _SAMPLING:
            problems.append(f"{label!r}: no option {key!r}; there are n, {', '.join(_SAMPLING)}")
            continue
        try:
            number = _SAMPLING.get(key, int)(text)
        except ValueError:
            problems.append(f"{label!r}: {key} should be a number, not {text!r}")
            continue
        if key == "n":
            per_prompt = number
        else:
            values[key] = number
    sampling = replace(default.sampling, **values)
    problems += [f"{label!r}: {problem}" for problem in sampling_problems(sampling)]
    return Responder(model, run_id, base_url, sampling, per_prompt, default.api_key if base_url else "")


def sampling_problems(sampling: Sampling) -> list[str]:
    """Return what is out of range, in words."""
    problems = []
    if not 0 <= sampling.temperature <= 5:
        problems.append(f"temperature should be 0 to 5, not {sampling.temperature:g}")
    if not 0 < sampling.top_p <= 1:
        problems.append(f"top_p should be above 0 and at most 1, not {sampling.top_p:g}")
    if sampling.top_k < 0:
        problems.append(f"top_k should be 0 or more, not {sampling.top_k}")
    if sampling.max_tokens < 1:
        problems.append(f"max_tokens should be 1 or more, not {sampling.max_tokens}")
    return problems


def _shown_or_nothing(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        return shown_url(base_url) if parts.hostname and (parts.port is None or parts.port) else ""
    except ValueError:
        return ""
