"""Several models answer the same prompts, and one that fails does not stop the others."""

from typing import Any

import pytest

from models.client import Sampling
from storage import Project, Store
from tests.completion_server import CompletionServer
from transfer.candidates import drawing
from transfer.candidates.responders import Responder
from transfer.candidates.several import generate_from


def test_two_models_are_paired_one_fails_and_no_key_is_stored(
    store: Store, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "RETRY_SECONDS", (0.01,))
    store.prompts.add(project.id, [{"role": "user", "content": "Q"}])
    server, workers = CompletionServer(), None
    try:
        base, key = server.endpoint.base_url, server.endpoint.api_key
        asked = [
            Responder(name, base_url=url, sampling=Sampling(seed=seed), per_prompt=1, api_key=key)
            for name, url, seed in (("a", base, 1), ("b", base, 2), ("c", "http://127.0.0.1:9/v1", 3))
        ]
        found: Any = generate_from(store, project, workers, asked, source="other")
    finally:
        server.close()
    assert found.items == {"pair": 1} and len(found.models) == 2
    assert list(found.failed) == ["c@http://127.0.0.1:9/v1"]
    stored = [r for p in store.prompts.list(project.id) for r in store.responses.of_prompt(p.id)]
    assert {r.model for r in stored} == {f"a@{base}", f"b@{base}"}
    assert not key or all(key not in repr(r) for r in stored)
    assert "failed" in found.sentence() and found.as_dict()["items"] == {"pair": 1}
