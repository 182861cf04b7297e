"""A data set on a hub as rows, read as it arrives and never kept.

Owns the way to the hub and what may be wrong on it, in words. It does not run code of a data set, and it does not know
formats. `datasets` is imported when the first set is read.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from errors import ImportFormatError
from transfer.formats.messages import RowError
from transfer.reading import columnar
from transfer.reading.source import Source

ADDRESS = re.compile(r"(?P<set>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<config>[\w.-]+))?(?::(?P<split>[\w.-]+))?", re.ASCII)
REACH_SECONDS = 12
READ_RETRIES = 2
READ_PAUSE_SECONDS = 1
PROGRESS_ROWS = 64


class HubSource(Source):
    """The rows of one split of a data set. address: "OWNER/NAME@CONFIG:SPLIT", the last two where there are several."""

    def __init__(self, address: str, name: str | None = None) -> None:
        super().__init__(address, name or f"hub:{address}")
        self._address = address

    def _rows(self) -> Iterator[tuple[str, Any]]:
        found = ADDRESS.fullmatch(self._address.strip())
        if not found:
            raise self.refused("a data set is written hub:OWNER/NAME, hub:OWNER/NAME:SPLIT or hub:OWNER/NAME@CONFIG:SPLIT")
        # Before the clock starts: a disk that is slow is no hub that cannot be reached.
        import huggingface_hub.errors
        import huggingface_hub.hf_api  # noqa: F401

        _in_time(lambda: self._check(found["set"]), REACH_SECONDS, self._unreachable)
        split = self._opened_split(found["set"], found["config"], found["split"])
        self._layers = ["data set on a hub", f"split {split.split}"] if split.split else ["data set on a hub"]
        known = split.info.splits and split.info.splits.get(str(split.split))
        total = known.num_examples if known else 0
        iterator, number = iter(split), 0
        while True:
            try:
                row = next(iterator)
            except StopIteration:
                return
            except Exception as error:  # whatever a reader of a file or of the network raises
                raise self.refused(f"row {number + 1} cannot be read from the hub ({_short(error)})") from error
            number += 1
            if number % PROGRESS_ROWS == 0 and total:
                reached = number / total
                self._measure = lambda reached=reached: reached  # type: ignore[misc]
            try:
                yield f"row {number}", columnar.plain(row)
            except RowError as error:
                yield f"row {number}", error

    def _unreachable(self, why: str = "") -> ImportFormatError:
        return self.refused(
            f"the hub cannot be reached{f' ({why})' if why else ''}; check the network, or download the files and bring"
            " them in"
        )

    def _check(self, name: str) -> None:
        """Ask the hub for the set. Raises ImportFormatError when it is not there, not open, or nobody answers."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

        try:
            found = HfApi().dataset_info(name, timeout=REACH_SECONDS - 2)
        except GatedRepoError as error:
            raise self._gated() from error
        except RepositoryNotFoundError as error:
            raise self.refused(f"the hub has no data set called {name!r}, or it is private") from error
        except HfHubHTTPError as error:
            status = getattr(error.response, "status_code", "an error")
            raise self._unreachable(f"it answers {status}") from error
        except ValueError as error:  # no name of a data set
            raise self.refused(f"{name!r} is no name of a data set") from error
        except Exception as error:  # every failure of the network, which the client's own library names
            raise self._unreachable(_short(error)) from error
        if getattr(found, "gated", False) and not HfApi().token and not _has_token():
            raise self._gated()

    def _gated(self) -> ImportFormatError:
        return self.refused("the data set is open only to people who asked for it; ask on its page and log in to the hub")

    def _opened_split(self, name: str, config: str | None, split: str | None) -> Any:
        import datasets

        if "torch" not in sys.modules:  # rows are no tensors; torch would take seconds and hundreds of megabytes
            datasets.config.TORCH_AVAILABLE = False
        # Five seconds twenty times over would be silence to whoever waits.
        datasets.config.STREAMING_READ_MAX_RETRIES = READ_RETRIES
        datasets.config.STREAMING_READ_RETRY_INTERVAL = READ_PAUSE_SECONDS
        try:
            splits = datasets.load_dataset(name, config, streaming=True)
        except Exception as error:  # what its many readers raise; the text names the configs there are
            raise self.refused(f"the data set cannot be opened ({_short(error)})") from error
        if split is None and len(splits) > 1 and "train" not in splits:
            raise self.refused(f"it has several splits ({', '.join(splits)}); add one, as in {self.name}:{next(iter(splits))}")
        chosen = split or ("train" if "train" in splits else next(iter(splits), ""))
        if chosen not in splits:
            raise self.refused(f"it has no split called {chosen!r}; it has {', '.join(splits) or 'none'}")
        return splits[chosen]


def _in_time(work: Callable[[], None], seconds: float, late: Callable[[], ImportFormatError]) -> None:
    """Do some work in a thread and wait for it at most so long. Raises what it raises, or late()."""
    raised: list[BaseException] = []

    def attempt() -> None:
        try:
            work()
        except BaseException as error:  # handed to the caller's thread
            raised.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise late()
    if raised:
        raise raised[0]


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
