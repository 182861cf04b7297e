"""One decoding loop for many rows: each with its own adapter, settings and random numbers.

Rows are padded on the left, so all write their next token into the same column of the cache. Finished rows are
dropped; new ones join the running batch where the cache is plain keys and values. Does not know text or servers.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from transformers import DynamicCache

from models import cache_rows
from models.adapters import Adapter, AdapterSet
from models.loading import LoadedModel, context_limit
from models.prompting import end_of_turn_id
from models.sampling import draw_tokens, is_penalised
from models.wire import Sampling

# Padded prompt tokens read in one forward pass, a bound on memory.
_PREFILL_TOKENS = 16_384


@dataclass(eq=False)
class Row:
    """One answer being written.

    new_ids: its tokens so far, without the one that ended it. finish_reason: "stop" or "length" once it has ended.
    """

    prompt_ids: list[int]
    sampling: Sampling
    adapter: Adapter | None = None
    new_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None

    def __post_init__(self) -> None:
        self.draw = random.Random(self.sampling.seed)
        self.last_id = -1


class Decoder:
    """A running batch. Not safe for several threads."""

    def __init__(self, loaded: LoadedModel, adapters: AdapterSet) -> None:
        """Start with no rows. adapters: of the same model."""
        self.rows: list[Row] = []
        self.context_limit = context_limit(loaded.model)
        self._model = loaded.model
        self._device = loaded.device
        self._adapters = adapters
        self._pad_id = int(loaded.tokenizer.pad_token_id)
        self._stop_ids = stop_ids(loaded)
        parameters = inspect.signature(loaded.model.forward).parameters
        self._takes_positions = "position_ids" in parameters
        # Its newer name; the old one still works, with a warning each time.
        self._cache_argument = "cache" if "cache" in parameters else "past_key_values"
        self._extra = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        self._clear()

    @property
    def can_join(self) -> bool:
        """True when rows may be admitted now: the batch is empty, or its cache can take them."""
        return not self.rows or cache_rows.is_plain(self._cache)

    @torch.inference_mode()
    def admit(self, rows: Sequence[Row]) -> list[Row]:
        """Read the prompts of new rows, draw their first tokens and let them join. Returns the rows, ended or not."""
        assert self.can_join
        for group in self._prefill_groups(rows):
            self._prefill(group)
        self.drop([row for row in rows if row.finish_reason])
        return list(rows)

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Draw the next token of every row and drop those that end with it. Returns the rows that drew."""
        rows = list(self.rows)
        last = torch.tensor([[row.last_id] for row in rows], device=self._device)
        with self._adapters.rows([row.adapter for row in rows]):
            logits = self._forward(last, self._cache, self._starts, self._width)
        self._width += 1
        self._draw(rows, logits)
        self.drop([row for row in rows if row.finish_reason])
        return rows

    @torch.inference_mode()
    def drop(self, gone: Sequence[Row]) -> None:
        """Take rows out of the batch, ended or not; rows that are not in it are ignored."""
        leaving = set(gone)
        keep = [index for index, row in enumerate(self.rows) if row not in leaving]
        if not keep:
            self._clear()
        elif len(keep) < len(self.rows):
            self._select(keep)
            self._trim()

    def clear(self) -> None:
        """Take out all rows, also after an error has left the cache in an unknown state."""
        self._clear()

    def _clear(self) -> None:
        self.rows = []
        self._cache: DynamicCache | None = None
        self._starts: list[int] = []  # for each row, the columns of padding on its left
        self._width = 0  # columns in the cache

    def _prefill_groups(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Cut new rows into groups that are read at once; a cache that nobody can join takes all in one."""
        if not cache_rows.is_plain(cache_rows.roomy(self._model.config)):
            return [list(rows)] if rows else []
        groups: list[list[Row]] = []
        room = 0
        for row in sorted(rows, key=lambda row: len(row.prompt_ids), reverse=True):
            if room < 1:
                groups.append([])
                room = max(1, _PREFILL_TOKENS // len(row.prompt_ids))
            groups[-1].append(row)
            room -= 1
        return groups

    def _prefill(self, rows: list[Row]) -> None:
        """Read prompts, each different one only once, and append the rows to the batch."""
        places: dict[Any, int] = {}
        sources = [places.setdefault((row.adapter, tuple(row.prompt_ids)), len(places)) for row in rows]
        prompts = list(places)
        width = max(len(ids) for _, ids in prompts)
        starts = [width - len(ids) for _, ids in prompts]
        padded = [[self._pad_id] * start + list(ids) for start, (_, ids) in zip(starts, prompts)]
        cache = cache_rows.roomy(self._model.config)
        with self._adapters.rows([adapter for adapter, _ in prompts]):
            logits = self._forward(torch.tensor(padded, device=self._device), cache, starts, 0)
        if len(rows) > len(prompts):
            logits = logits[sources]
            cache_rows.select(cache, sources, self._device)
        self._draw(rows, logits)
        new_starts = [starts[source] for source in sources]
        if self._cache is None:
            self._cache, self._width, joined_starts = cache, width, new_starts
        else:
            joined = max(self._width, width)
            cache_rows.join(self._cache, joined - self._width, cache, joined - width)
            shifted = [start + joined - self._width for start in self._starts]
            joined_starts = shifted + [start + joined - width for start in new_starts]
            self._width = joined
        self.rows, self._starts = self.rows + rows, joined_starts
        # Rows of one adapter side by side, the base first: then each is one slice of the batch.
        order = sorted(range(len(self.rows)), key=lambda index: _group_key(self.rows[index]))
        if order != list(range(len(order))):
            self._select(order)

    def _forward(self, ids: torch.Tensor, cache: DynamicCache, starts: list[int], seen: int) -> torch.Tensor:
        """Run the model on new columns of ids [n, t] after `seen` columns, and return the last one's logits [n, v]."""
        inputs: dict[str, Any] = dict(self._extra)
        columns = torch.arange(seen + ids.shape[1], device=self._device)
        padding = torch.tensor(starts, device=self._device)[:, None]
        if any(starts):  # a mask of ones is left out: it would be built only to be found useless
            inputs["attention_mask"] = (columns >= padding).long()
        if self._takes_positions:
            inputs["position_ids"] = (columns[seen:] - padding).clamp(min=0)
        inputs[self._cache_argument] = cache
        return self._model(input_ids=ids, use_cache=True, **inputs).logits[:, -1]

    def _draw(self, rows: list[Row], logits: torch.Tensor) -> None:
        settings = [row.sampling for row in rows]
        seen: list[list[int]] = []
        if any(map(is_penalised, settings)):
            seen = [[*row.prompt_ids, *row.new_ids] if is_penalised(row.sampling) else [] for row in rows]
        tokens = draw_tokens(logits, settings, [row.draw for row in rows], seen)
        for row, token in zip(rows, tokens):
            row.last_id = token
            if token in self._stop_ids:
                row.finish_reason = "stop"
                continue
            row.new_ids.append(token)
            length = len(row.prompt_ids) + len(row.new_ids)
            full = self.context_limit is not None and length >= self.context_limit
            if len(row.new_ids) >= row.sampling.max_tokens or full:
                row.finish_reason = "length"

    def _select(self, indices: list[int]) -> None:
        cache_rows.select(self._cache, indices, self._device)
        self.rows = [self.rows[index] for index in indices]
        self._starts = [self._starts[index] for index in indices]

    def _trim(self) -> None:
        """Forget columns that are padding in every row."""
        empty = min(self._starts)
        if empty and cache_rows.is_plain(self._cache):
            cache_rows.trim(self._cache, empty)
            self._starts = [start - empty for start in self._starts]
            self._width -= empty


def stop_ids(loaded: LoadedModel) -> frozenset[int]:
    """Return the tokens that end an answer: those of the generation config, the tokenizer and the chat template."""
    configured = getattr(loaded.model.generation_config, "eos_token_id", None)
    several = configured if isinstance(configured, (list, tuple)) else [configured]
    ends = chain(several, [loaded.tokenizer.eos_token_id, end_of_turn_id(loaded.tokenizer)])
    return frozenset(int(token) for token in ends if token is not None)


def decode(loaded: LoadedModel, adapters: AdapterSet, rows: Sequence[Row]) -> None:
    """Write all rows to their ends in one batch; the answers are in their `new_ids`."""
    decoder = Decoder(loaded, adapters)
    decoder.admit(rows)
    while decoder.rows:
        decoder.step()


def _group_key(row: Row) -> tuple[str, int]:
    return ("", 0) if row.adapter is None else (row.adapter.name, id(row.adapter))
