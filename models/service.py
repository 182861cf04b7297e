"""What a worker serves: one base model and the adapters of a folder, by name. Does not know HTTP.

`base` is the base model; `run-<id>` is the adapter in `<folder>/run-<id>/adapter`, loaded when it is first asked for
and again when its files have changed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from errors import ModelError
from models.adapters import Adapter, AdapterSet
from models.catalog import identity
from models.decoding import Row, decode
from models.engine import Engine, Piece, Ticket
from models.loading import LoadedModel, context_limit, load_base
from models.logps import collate, token_logps
from models.prompting import Rendered, render_prompt, response_pieces
from models.protocol import ChatRequest, ProtocolError
from models.wire import Message, Sampling, TokenLogps

BASE = "base"
_RUN = re.compile(r"run-[0-9]+")


@dataclass(frozen=True)
class Prepared:
    """A request's prompt as tokens, its adapter (None for the base), and the fingerprint of the weights that answer."""

    prompt_ids: list[int]
    adapter: Adapter | None
    fingerprint: str


class Service:
    """The models of one worker; `load` makes them ready."""

    def __init__(self, model: str, adapters_folder: Path, device: str = "auto") -> None:
        """Load nothing yet. model: the base model as `catalog.resolve` takes it."""
        self.model = model
        self.engine: Engine | None = None
        self._folder = adapters_folder
        self._device = device
        self._loaded: LoadedModel | None = None
        self._adapters: AdapterSet | None = None
        self._fingerprint = ""

    def load(self) -> None:
        """Load the base model and write a few tokens, so that the first answer is not slower than the next.

        Raises ModelError when the model cannot be loaded.
        """
        loaded = load_base(self.model, self._device)
        adapters = AdapterSet(loaded.model, self.model)
        prompt_ids = render_prompt(loaded.tokenizer, [{"role": "user", "content": "Hello"}])
        decode(loaded, adapters, [Row(prompt_ids, Sampling(max_tokens=3, seed=seed)) for seed in range(2)])
        self._fingerprint = identity(self.model)
        self._loaded, self._adapters = loaded, adapters
        self.engine = Engine(loaded, adapters)

    @property
    def context_length(self) -> int | None:
        """The most tokens the models read, their answer included; None while loading or where none is known."""
        return None if self._loaded is None else context_limit(self._loaded.model)

    def names(self) -> list[str]:
        """Return the names that can be asked for now: the base first, then the runs by number."""
        found = [path.parent.name for path in self._folder.glob("run-*/adapter") if _RUN.fullmatch(path.parent.name)]
        return [BASE, *sorted(found, key=lambda name: int(name[4:]))]

    def prepare(self, request: ChatRequest) -> Prepared:
        """Find the adapter and render the prompt.

        Raises ProtocolError for a name that is not served or before the model is loaded, ModelError for an adapter
        or a conversation that cannot be used.
        """
        if self._loaded is None or self._adapters is None:
            raise ProtocolError("The model is still being loaded. Try again in a moment.", 503, "unavailable_error")
        adapter = None
        if request.model != BASE:
            folder = self._folder / request.model / "adapter"
            if not _RUN.fullmatch(request.model) or not folder.is_dir():
                served = ", ".join(self.names())
                raise ProtocolError(f'There is no model "{request.model}" here, only {served}.', 404, "not_found_error")
            adapter = self._adapters.load(request.model, folder)
        fingerprint = self._fingerprint if adapter is None else f"{self._fingerprint} {adapter.hash}"
        return Prepared(self._prompt_ids(request.messages), adapter, fingerprint)

    def submit(self, prepared: Prepared, sampling: Sampling, give: Callable[[Piece], None]) -> Ticket:
        """Ask for one answer. Raises ModelError when the prompt leaves no room for it."""
        assert self.engine is not None
        return self.engine.submit(prepared.prompt_ids, sampling, prepared.adapter, give)

    def token_logps(self, request: ChatRequest, response: str) -> TokenLogps:
        """Score every token of a text as the answer, under the model that is named and under the base.

        One forward pass for both, between two tokens of the answers that are being written. Raises ProtocolError and
        ModelError as `prepare` does, and ModelError when it is all longer than the model reads.
        """
        adapter = self.prepare(request).adapter
        assert self._loaded is not None and self.engine is not None
        rendered, pieces = response_pieces(self._loaded.tokenizer, request.messages, response)
        limit = self.context_length
        if limit is not None and len(rendered.ids) > limit:
            raise ModelError(
                f"The conversation and the answer have {len(rendered.ids)} tokens and the model reads at most {limit}. "
                "Shorten them."
            )
        base, own = self.engine.run(partial(self._score, rendered, adapter))
        if not all(map(math.isfinite, [*base, *own])):
            raise ModelError(f"{request.model} gives no numbers for this text: its weights are broken. Train it again.")
        return TokenLogps(pieces, own, base)

    @torch.inference_mode()
    def _score(self, rendered: Rendered, adapter: Adapter | None) -> tuple[list[float], list[float]]:
        """Return each response token's log-prob under the base and under the adapter. For the engine's thread."""
        assert self._loaded is not None and self._adapters is not None
        speakers = [None] if adapter is None else [None, adapter]
        batch = collate([rendered] * len(speakers), int(self._loaded.tokenizer.pad_token_id)).to(self._loaded.device)
        with self._adapters.rows(speakers):
            scores = token_logps(self._loaded.model, batch).tolist()
        count = len(rendered.response_ids)
        return scores[:count], scores[-count:]

    def _prompt_ids(self, messages: list[Message]) -> list[int]:
        if self._loaded is None:
            raise ModelError(f"{self.model} is not loaded.")
        return render_prompt(self._loaded.tokenizer, messages)
