"""Pushing a run to a model hub: its adapter, or its merged weights, into a repository of the person's own.

    python -m publish.hub --data DIR --run ID --name OWNER/NAME [--merged] [--public]

The token is what `hf auth login` kept or what HF_TOKEN holds: it is never asked for, written down or said. What goes
up appears in one commit or not at all. Does not know torch, nor who asked.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from errors import AppError
from publish import adapter, merging
from publish.source import PublishError, finished
from storage import Store
from training.background import MORE, Work, exit_code

PUSH = Work(
    "push", "pushing", "publish.hub",
    "The pushing ended without a word: it was killed. Look at the repository, then push again.", stoppable=False,
    refusal=PublishError,
)
ANSWER_SECONDS = 15.0
_NAME = re.compile(r"(?:[A-Za-z0-9][\w.\-]*/)?[A-Za-z0-9][\w.\-]*", re.ASCII)
_LONGEST_NAME = 96


@dataclass(frozen=True)
class PushReport:
    """What was pushed where. private: as the hub says it is, which it may have been before."""

    run: int
    url: str
    private: bool
    merged: bool
    files: int
    size_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)

    def sentence(self) -> str:
        """Say where it is, and who can see it."""
        what = "The merged model" if self.merged else "The adapter"
        who = "only you and whom you let in" if self.private else "everybody"
        return f"{what} of run {self.run} is at {self.url}: {self.size_bytes / 1e6:,.1f} MB, to be seen by {who}."


def check_name(name: str) -> str:
    """Return the name of a repository without blanks around it. Raises PublishError when no hub would take it."""
    found = name.strip()
    bad = "--" in found or ".." in found or found.endswith((".git", ".", "-"))
    if bad or not _NAME.fullmatch(found) or len(found) > _LONGEST_NAME:
        raise PublishError(
            f'"{found}" is no name for a repository. Use OWNER/NAME or NAME, of letters, digits, "-", "_" and ".",'
            f" {_LONGEST_NAME} at most, without -- or .. in it and not ending in them."
        )
    return found


def token() -> str:
    """Return the token of this machine. Raises PublishError when there is none."""
    from huggingface_hub import get_token

    found = get_token()
    if not found:
        raise PublishError(
            "There is no token for the hub. Log in with `hf auth login`, or put one that may write into HF_TOKEN."
        )
    return found


def execute(
    store: Store, run_id: int, name: str, merged: bool = False, private: bool = True,
    progress: Callable[[str], None] = lambda line: None,
) -> PushReport:
    """Push a run into a repository, which is made when there is none of that name.

    name: OWNER/NAME, or NAME in one's own account. merged: push the merged weights in their usual place instead of the
    adapter. private: let nobody else see it; refused where the repository is there and public. progress: gets every
    line of the log. Raises NotFoundError, and PublishError when the run has no adapter or no merged weights, the name
    is none, the token is missing or refused, or the hub cannot be reached or says no.
    """
    name = check_name(name)
    whole = _checked(store, run_id, merged)
    known = token()
    with PUSH.doing(store, run_id, progress, lambda error: _explained(error, name, known)) as (say, _):
        say(f"Asking the hub {MORE}")
        repository = _repository(name, known)
        folder = whole or store.runs.folder(run_id) / "push.unfinished"
        try:
            if whole is None:
                shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
                adapter.copy(store, run_id, folder)
            report = _pushed(run_id, folder, repository, known, private, merged, say)
        finally:
            if whole is None:
                shutil.rmtree(folder, ignore_errors=True)
        say(report.sentence())
    return report


def start(store: Store, run_id: int, name: str, merged: bool = False, private: bool = True) -> None:
    """Push a run in a process of its own that outlives this one. Raises as `execute` does before it asks the hub."""
    name = check_name(name)
    _checked(store, run_id, merged)
    token()
    chosen = [*(["--merged"] if merged else []), *([] if private else ["--public"])]
    PUSH.start(store, run_id, ["--name", name, *chosen])


def _checked(store: Store, run_id: int, merged: bool) -> Path | None:
    """Return the folder of the merged weights when they are to be pushed."""
    finished(store, run_id)
    if not merged:
        return None
    folder = merging.merged_folder(store, run_id)
    if folder is None:
        usual = merging.usual_folder(store, run_id)
        raise PublishError(f"Run {run_id} is not merged yet: {usual} holds no model. Merge it first.")
    return folder


def _repository(name: str, known: str) -> str:
    """Return OWNER/NAME, after the hub has said whose token this is. Raises PublishError."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise PublishError("HF_HUB_OFFLINE is set, so the hub is not asked. Unset it to push.")
    place = constants.ENDPOINT
    try:
        headers = {"Authorization": f"Bearer {known}"}
        answer = httpx.get(f"{place}/api/whoami-v2", headers=headers, timeout=ANSWER_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise PublishError(
            f"The hub at {place} cannot be reached ({type(error).__name__}). Check the network, then push again."
        ) from error
    another = f"Make one that may write at {place}/settings/tokens, and `hf auth login`."
    if answer.status_code in (401, 403):
        raise PublishError(f"The hub refused the token. {another}")
    try:
        told = answer.raise_for_status().json()
        owner, role = str(told["name"]), ((told.get("auth") or {}).get("accessToken") or {}).get("role")
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PublishError(f"{place} does not answer as a hub does (status {answer.status_code}). Try again later.") from error
    if role == "read":
        raise PublishError(f"The token may only read. {another}")
    return name if "/" in name else f"{owner}/{name}"


def _pushed(
    run_id: int, folder: Path, repository: str, known: str, private: bool, merged: bool, say: Callable[[str], None]
) -> PushReport:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    api = HfApi(token=known, library_name="preference-studio")
    api.create_repo(repository, private=private, exist_ok=True)
    is_private = bool(api.model_info(repository).private)
    if private and not is_private:
        raise PublishError(
            f"{repository} is there already and everybody can see it. Push under another name, or push it as public."
        )
    say(f"Uploading {size / 1e6:,.1f} MB to {repository} {MORE}")
    what = "merged model" if merged else "adapter"
    api.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"Upload the {what} of run {run_id}")
    return PushReport(run_id, f"{api.endpoint}/{repository}", is_private, merged, len(files), size)


def _explained(error: BaseException, name: str, known: str) -> BaseException:
    """Turn what the hub's library raises into a sentence without the token; leave everything else as it is."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, AppError):
        return error
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        said = " ".join(str(error.server_message or "").replace(known, "…").split())[:200]
        reason = {
            401: "The token may not write there", 403: "The token may not write there", 413: "The hub finds it too large",
            429: "The hub asks to wait: too many requests", 402: "The account has no room left",
        }.get(status, f"The hub answered with status {status}")
        return PublishError(f"{name} was not pushed. {reason}{f' ({said})' if said else ''}. Mend that, then push again.")
    if isinstance(error, (httpx.HTTPError, OSError, ValueError)):
        said = " ".join(str(error).replace(known, "…").split())[:200]
        return PublishError(f"{name} was not pushed: {said or type(error).__name__}. Push again; what is up already is kept.")
    return error


def main(arguments: list[str] | None = None) -> int:
    """Push from the command line; return 0, or 2 when it could not be done."""
    parser = PUSH.parser("Push a run to a model hub.")
    parser.add_argument("--name", required=True, help="OWNER/NAME, or NAME in one's own account")
    parser.add_argument("--merged", action="store_true", help="push the merged weights instead of the adapter")
    parser.add_argument("--public", action="store_true", help="let everybody see it")
    given = parser.parse_args(arguments)
    return exit_code(lambda: execute(Store(given.data), given.run, given.name, given.merged, not given.public))


if __name__ == "__main__":
    raise SystemExit(main())
