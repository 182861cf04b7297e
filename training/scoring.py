"""Scores rows with one model in forward passes of a bounded size. Knows no losses, labels or steps.

Rows are packed (`models.packing`) wherever that gives what padded rows give, which is compared once before the first
step; a model that fails the comparison gets padded batches, and a line says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from peft import PeftModel
from torch import Tensor

from errors import TrainingError
from models.fused import fuse
from models.logps import collate, packed_logps, response_logps
from models.packed_attention import NotPackable
from models.packing import by_prompt, pack, packed_tokens
from models.prompting import Rendered
from models.recompute import recompute_layers
from training.batching import micro_batches, packs
from training.defaults import tokens_per_forward as budget
from training.distributed import Stopped

# How far packed and padded log-probs may be apart per token, by precision: rounding is far below, a wrong mask above.
PER_TOKEN_TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-4}
LOW_PRECISION_PER_TOKEN_TOLERANCE = 0.05


class Scorer:
    """Scores rows with one model, packed until `prove` finds otherwise.

    tokens_per_forward: the budget of a forward pass, in tokens; 0 leaves it to the device.
    """

    def __init__(
        self,
        model: PeftModel,
        pad_id: int,
        device: torch.device,
        tokens_per_forward: int = 0,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.model, self.say = model, say
        self.tokens_per_forward = budget(tokens_per_forward, device.type)
        self.packs, self.recomputes = True, False
        self._proved = False
        self._pad_id = pad_id
        self.device = device
        self.begin_pass: Callable[[], None] = lambda: None  # where a pass needs other processes: they are told
        fuse(model)

    def parts(self, examples: Sequence[Sequence[Rendered]]) -> list[list[int]]:
        """Cut examples, each with the rows that belong to it, into forward passes; return places in `examples`."""
        if self.packs:
            return packs([packed_tokens(rows) for rows in examples], self.tokens_per_forward)
        return micro_batches([[len(row.ids) for row in rows] for rows in examples], self.tokens_per_forward)

    def policy(self, rows: Sequence[Rendered]) -> tuple[Tensor, Tensor]:
        """Return logps and lengths, both float32 [rows], in one forward pass that gradients can go through."""
        self.begin_pass()
        if self.packs:
            # The head was checked when packing was proved.
            logps, lengths = packed_logps(self.model, pack(rows).to(self.device), check=not self._proved)
        else:
            logps, lengths = response_logps(self.model, collate(rows, self._pad_id).to(self.device))
        return logps, lengths.to(logps.dtype)

    @torch.no_grad()
    def policy_without_gradient(
        self, rows: Sequence[Rendered], should_stop: Callable[[], bool] = lambda: False
    ) -> Tensor:
        """Return logps, float32 [rows], of any number of rows, within the budget. Raises Stopped when asked to."""
        waiting = by_prompt(rows)
        logps = torch.zeros(len(rows), device=self.device)
        while waiting:
            part = self.parts([[rows[place] for place in group] for group in waiting])[0]
            if should_stop():
                raise Stopped
            places = [place for number in part for place in waiting[number]]
            try:
                logps[places] = self.policy([rows[place] for place in places])[0]
            except Exception as error:
                self.recover(error, len(part))
            else:
                waiting = [group for number, group in enumerate(waiting) if number not in part]
        return logps

    def prove(self, rows: Sequence[Rendered]) -> None:
        """Compare packed log-probs with those of each row alone, on a few rows; from then on pad if they differ.

        rows: of at least one prompt. Two rows of the shortest prompt are taken and the longest row: rows that come
        after others in a line, share a prompt, and reach as far as any.
        """
        groups = sorted(by_prompt(rows), key=lambda places: max(len(rows[place].ids) for place in places))
        taken = [rows[place] for place in groups[0][:2]]
        if len(groups) > 1:
            taken.append(max((rows[place] for place in groups[-1]), key=lambda row: len(row.ids)))
        try:
            with torch.no_grad():
                reason = self._difference(taken)
        except Exception as error:
            self.recomputes = True  # nothing is kept here that could be computed again
            self.recover(error, 1)
            raise
        self._proved = True
        if reason:
            self.packs = False
            self.say(f"Rows are padded, not packed, because {reason}. That is slower and changes nothing else.")

    def _difference(self, rows: Sequence[Rendered]) -> str:
        """Say how packed and padded log-probs of rows differ; "" when they do not."""
        try:
            packed, lengths = self.policy(rows)
        except NotPackable as error:
            return f"of this model's architecture {error}"
        except Exception as error:  # an architecture may break in any way over a line without a mask
            if is_out_of_memory(error):
                raise
            return f"this model cannot compute packed rows ({type(error).__name__})"
        self.packs = False
        padded = torch.cat([self.policy([row])[0] for row in rows])
        self.packs = True
        apart = float(((packed - padded).abs() / lengths).max())
        dtype = next(self.model.parameters()).dtype
        if apart <= PER_TOKEN_TOLERANCES.get(dtype, LOW_PRECISION_PER_TOKEN_TOLERANCE):
            return ""
        return f"this model scores packed rows differently (by {apart:.2g} nats a token)"

    def recover(self, error: Exception, largest: int) -> None:
        """Make do with less memory when it ran out, for the caller to try again; raise whatever else happened.

        The budget halves down to a single example a forward pass, which is then computed layer by layer again in
        its backward pass. largest: examples in the largest part that was tried. Raises TrainingError when that does
        not fit either.
        """
        if not is_out_of_memory(error):
            raise error
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if largest <= 1 and not self.recomputes and recompute_layers(self.model):
            self.recomputes = True
            self.say("The memory ran out over a single example; its layers are computed again in the backward pass.")
            return
        if largest <= 1:
            raise TrainingError(
                "The memory ran out over a single example. Lower max_length_tokens, close what else uses the memory,"
                " or choose a smaller model."
            ) from error
        self.tokens_per_forward = max(1, self.tokens_per_forward // 2)
        self.say(f"The memory ran out; going on with {self.tokens_per_forward} tokens a forward pass.")


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory, of the machine or of a GPU, ran out."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    )
