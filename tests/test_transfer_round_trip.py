"""What goes out as labels comes in again as it was."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import Store
from transfer.exporting.export import export
from transfer.importing import import_file

numbers = count()
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8).map("x{}".format) | (
    st.sampled_from(["=1+1", "'=1", "@x", "-a\n\"b\",c", "日本語"])
)
CHOICES = st.lists(st.tuples(st.sampled_from(["ann", "bob"]), st.sampled_from([0, 1, None])), min_size=1, max_size=3)


def said(path: Path) -> list[tuple[Any, ...]]:
    """Return what the current labels of a JSON lines file say, without the numbers that a project gives."""
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    return sorted(
        (json.dumps(row["prompt"]), sorted(response["text"] for response in row["responses"]), row["annotator"],
         row["verdict"], row["responses"][row["chosen"]]["text"] if row["chosen"] is not None else "")
        for row in rows
    )


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.dictionaries(TEXT, CHOICES, min_size=1, max_size=3))
def test_labels_come_in_as_they_went_out(tmp_path: Path, suffix: str, pairs: dict[str, list]) -> None:
    folder = tmp_path / str(next(numbers))
    store = Store(folder)
    source, target = store.projects.ensure("out"), store.projects.ensure("in")
    for text, choices in pairs.items():
        prompt_id, _ = store.prompts.add(source.id, [{"role": "user", "content": text}])
        ids = [store.responses.add(prompt_id, f"{text}{side}")[0] for side in "ab"]
        item_id, _ = store.items.add(source.id, prompt_id, ids)
        for annotator, chosen in choices:
            store.labels.add(
                item_id, annotator, "tie" if chosen is None else "chosen", client_id=f"trip-{next(numbers)}",
                shown_response_ids=ids, chosen_response_id=None if chosen is None else ids[chosen],
            )
    export(store, source, "labels", folder / f"out.{suffix}")
    export(store, source, "labels", folder / "before.jsonl")
    import_file(store, target.name, folder / f"out.{suffix}")
    export(store, target, "labels", folder / "after.jsonl")
    assert said(folder / "after.jsonl") == said(folder / "before.jsonl")
