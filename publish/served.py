"""What the API serves: a base model and those finished runs that were trained on it. Imports torch; does not know HTTP."""

from __future__ import annotations

import re

from errors import ModelError, NotFoundError
from models import catalog
from models.protocol import ChatRequest, ProtocolError
from models.service import BASE, Prepared, Service
from publish.source import list_finished, provenance
from storage import Run, Store

_RUN = re.compile(r"run-([1-9][0-9]{0,17})")


class PublishedService(Service):
    """A worker's service that names and serves only what fits its base."""

    def __init__(self, store: Store, model: str, device: str = "auto") -> None:
        """Load nothing yet. model: the base as `catalog.resolve` takes it. Raises ModelError for an unknown one."""
        super().__init__(model, store.folder / "runs", device)
        self._store = store
        self._identity = catalog.identity(model)
        # A run is read once: a base without a recorded identity is hashed for it, and every request asks.
        self._fitting: dict[tuple[int, float], bool] = {}

    def names(self) -> list[str]:
        """Return the names that can be asked for now: the base first, then its finished runs by number."""
        runs = sorted(run.id for run in list_finished(self._store, None) if self._fits(run))
        return [BASE, *(f"run-{run_id}" for run_id in runs)]

    def prepare(self, request: ChatRequest) -> Prepared:
        """Find the adapter and render the prompt, as the worker does. Raises ProtocolError for a name not served."""
        if not self._serves(request.model):
            served = ", ".join(self.names())
            raise ProtocolError(f'There is no model "{request.model}" here, only {served}.', 404, "not_found_error")
        return super().prepare(request)

    def _serves(self, name: str) -> bool:
        found = _RUN.fullmatch(name)
        if found is None:
            return name == BASE
        try:
            run = self._store.runs.get(int(found[1]))
        except NotFoundError:
            return False
        return run.adapter is not None and self._fits(run)

    def _fits(self, run: Run) -> bool:
        """Say whether a run was trained on this base: by what it wrote then, else by its base's name."""
        known = run.id, run.created_at  # a restored backup may give the number to another run
        try:
            if known not in self._fitting:
                recorded = provenance(self._store, run).get("base_identity")
                self._fitting[known] = (recorded or catalog.identity(run.model)) == self._identity
            return self._fitting[known]
        except ModelError:  # not kept: the folder may come back
            return False
