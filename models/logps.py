"""Log-probabilities of responses under a causal language model. Does not know losses, references or batching.

Only response positions reach the LM head, a block of them at a time, so the logits of a batch (rows × tokens ×
vocabulary) never exist at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from models.lm_head import Head, NoPlainHead, find_head, target_logps
from models.packed_attention import NotPackable, packed_attention
from models.packing import Packed
from models.prompting import Rendered


@dataclass(frozen=True)
class Batch:
    """Right-padded rows of prompt and response, all [n, t].

    ids: int64. attention_mask: int64, 1 on tokens, 0 on padding. response_mask: bool, True on the tokens that are
    scored; never on a row's first token, which nothing predicts.
    """

    ids: torch.Tensor
    attention_mask: torch.Tensor
    response_mask: torch.Tensor

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device."""
        moved = (part.to(device, non_blocking=True) for part in (self.ids, self.attention_mask, self.response_mask))
        return Batch(*moved)


def collate(rows: Sequence[Rendered], pad_id: int) -> Batch:
    """Pad rendered rows on the right into one batch. Padding ids are masked, so any token will do for `pad_id`."""
    length = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), length), pad_id, dtype=torch.long)
    attention_mask = torch.zeros_like(ids)
    response_mask = torch.zeros_like(ids, dtype=torch.bool)
    for index, row in enumerate(rows):
        assert 0 < row.prompt_length <= len(row.ids)
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        attention_mask[index, : len(row.ids)] = 1
        response_mask[index, row.prompt_length : len(row.ids)] = True
    return Batch(ids, attention_mask, response_mask)


def response_logps(
    model: torch.nn.Module, batch: Batch, check: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score each row's response.

    model: a transformers model, or a PeftModel around one. Gradients flow to whatever requires them; under
    `torch.no_grad` nothing is kept. check: compare the head with the model's own logits, which makes the host wait
    for a GPU; once for a model is enough.
    Returns (logps, lengths), both [n]: the float32 sum of log π(token ∣ all before it) over the response's tokens,
    in nats, and the number of those tokens (int64). A row without response tokens gives 0.
    """
    scores = token_logps(model, batch, check)
    rows = batch.response_mask.nonzero()[:, 0]
    logps = torch.zeros(len(batch.ids), dtype=torch.float32, device=scores.device).index_add(0, rows, scores)
    return logps, batch.response_mask.sum(dim=1)


def token_logps(model: torch.nn.Module, batch: Batch, check: bool = True) -> torch.Tensor:
    """Return the float32 log-prob of every response token, [tokens], row after row, in nats."""
    # The state before a token predicts it.
    predicting = batch.response_mask[:, 1:]
    targets = batch.ids[:, 1:][predicting]
    try:
        head = find_head(model)
        hidden, true_logits = _hidden_states(model, head, _inputs(batch))
        if check:
            head.check(hidden[:, -1], true_logits)
    except NoPlainHead:
        return _from_full_logits(model, batch, predicting, targets)
    return target_logps(head, hidden[:, :-1][predicting], targets)


def packed_logps(
    model: torch.nn.Module, packed: Packed, check: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score the responses of a packed line: the same numbers as `response_logps`, to rounding, for less work.

    Returns (logps, lengths) of its rows as `response_logps` does. Raises NotPackable when the model's attention
    cannot be computed in a packed line; that it is *right* there is for the caller to compare once.
    """
    try:
        head = find_head(model)
        with packed_attention(model, packed):
            hidden, true_logits = _hidden_states(
                model, head, {"input_ids": packed.ids, "position_ids": packed.positions, "use_cache": False}
            )
        if check:
            head.check(hidden[:, -1], true_logits)
    except NoPlainHead as error:
        raise NotPackable("its logits are made in a way of its own") from error
    scores = target_logps(head, hidden[0, packed.predicting], packed.targets)
    logps = torch.zeros(packed.count, dtype=torch.float32, device=scores.device).index_add(0, packed.rows, scores)
    return logps, torch.bincount(packed.rows, minlength=packed.count)


def _inputs(batch: Batch) -> dict[str, Any]:
    return {"input_ids": batch.ids, "attention_mask": batch.attention_mask, "use_cache": False}


def _hidden_states(
    model: torch.nn.Module, head: Head, inputs: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the model and return its last hidden states [n, t, d], and its own logits of the last position [n, v].

    The states are taken where the transformer hands them to the head, so that the model's own `forward` runs.
    """
    captured: list[torch.Tensor] = []

    def capture(module: torch.nn.Module, arguments: Any, output: Any) -> None:
        captured.append(output[0] if isinstance(output, tuple) else output.last_hidden_state)

    handle = head.transformer.register_forward_hook(capture)
    try:
        logits = model(**inputs, logits_to_keep=1).logits
    finally:
        handle.remove()
    if len(captured) != 1 or captured[0].shape[:2] != inputs["input_ids"].shape:
        raise NoPlainHead
    return captured[0], logits[:, -1].detach()


def _from_full_logits(
    model: torch.nn.Module, batch: Batch, predicting: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Score with the model's whole logits: for architectures whose head is not understood. Correct, but large."""
    logits = model(**_inputs(batch)).logits[:, :-1][predicting].float()
    return -torch.nn.functional.cross_entropy(logits, targets, reduction="none")
