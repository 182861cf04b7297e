"""Errors that are safe to show: each says what happened, where, and what to do next.

Owns the exception classes every package raises for its users. It does not know how they are shown;
`reported` turns them into a message for a page, `app.py` into one line and exit code 2.
"""

from __future__ import annotations

import functools
import html
from collections.abc import Callable
from typing import Any


class AppError(Exception):
    """Something the user can mend; the text is shown to them as it is."""


class ConfigError(AppError):
    """One or more settings cannot be used; the text lists every problem."""

    def __init__(self, problems: list[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("; ".join(self.problems))


class StorageError(AppError):
    """The data folder or its database cannot be read or written."""


class NotFoundError(AppError):
    """A project, prompt, item, label, run or chat of that name or number does not exist."""


class LabelError(AppError):
    """A label was refused; nothing of it was stored."""


class ImportFormatError(AppError):
    """A file to import is not what it should be; the text names the file and the first rows that are wrong.

    problems: all that is known to be wrong, up to a thousand: the place in the file, the field and the reason.
    """

    problems: tuple[tuple[str, str, str], ...] = ()


class ModelError(AppError):
    """A model, tokenizer or adapter cannot be found or loaded."""


class WorkerError(AppError):
    """The process that generates text did not start, died, or refused a request.

    status: the HTTP status of a refusal, None where there was none. retry_after: the seconds the server asks to wait.
    """

    status: int | None = None
    retry_after: float | None = None


class TrainingError(AppError):
    """A run cannot start or had to stop."""


class DivergedError(TrainingError):
    """The loss or the gradient of a run stopped being a number."""


def as_toast(sentence: str) -> str:
    """Return a sentence for a toast: those are HTML, and it may quote what somebody wrote."""
    return html.escape(sentence, quote=False)


def reported(notify: Callable[[str], Any], otherwise: Callable[[], Any]) -> Callable:
    """Make a decorator for page callbacks that shows an `AppError` instead of failing.

    notify: shows one message on the page, given `as_toast`.
    otherwise: gives what the callback returns after an error (leave everything as it is).
    Anything that is not an `AppError` propagates with its traceback to the log.
    """

    def decorate(callback: Callable) -> Callable:
        @functools.wraps(callback)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                return callback(*args, **kwargs)
            except AppError as error:
                notify(as_toast(str(error)))
                return otherwise()

        return guarded

    return decorate
