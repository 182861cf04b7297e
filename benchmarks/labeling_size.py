"""Does labelling slow down as a project grows? The time of a next card, of a label and of the progress, by items.

    python -m benchmarks.labeling_size [--sizes 1000,1000000] [--calls 300] [--json]

Every project wants three labels an item, and one annotator has labelled a tenth of it already: what they have passed
must not be walked through again. No browser and no server: what is measured is what the server does for a request.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import click

from labeling import annotate, queue
from labeling.settings import ORDERS, LabelingSettings
from storage import Store

LABELS_PER_ITEM = 3
LABELLED_SHARE = 10  # one item of so many
ANNOTATOR = "Ann"


def main() -> None:
    """Print the figures."""
    command()


@click.command()
@click.option("--sizes", default="1000,1000000", help="Numbers of items, the first is what the others are held to.")
@click.option("--calls", default=300, help="Calls of each kind, of which the median counts.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object as the last line.")
def command(sizes: str, calls: int, as_json: bool) -> None:
    """Measure projects of several sizes and print the figures."""
    figures: dict[str, dict[str, float]] = {}
    for size in map(int, sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            figures[str(size)] = measure(Path(folder), size, calls)
    first = next(iter(figures.values()))
    for size, row in figures.items():
        for name, milliseconds in row.items():
            click.echo(f"{int(size):>9,} items  {name:<24} {milliseconds:8.3f} ms  ratio {milliseconds / first[name]:.2f}")
    if as_json:
        click.echo(json.dumps(figures))


def measure(folder: Path, size: int, calls: int) -> dict[str, float]:
    """Return the median milliseconds of each kind of call on a fresh project of that many items."""
    store = Store(folder)
    project = fill(store, size)
    tickets, figures, numbers = queue.tickets_of(store), {}, count()
    for order in ORDERS:
        settings = LabelingSettings(labels_per_item=LABELS_PER_ITEM, order=order, random_share=0.0)
        store.projects.set_labeling(project, settings.as_dict())

        def next_card() -> None:
            lease = queue.lease_cards(store, project, "pair", ANNOTATOR, f"session-{next(numbers)}", 1, tickets=tickets)
            if not lease.cards:
                raise SystemExit(f"There was no card in a project of {size} items ordered {order!r}.")

        figures[f"next card, {order}"] = median_ms(next_card, min(calls, size // 10))
        for session in range(next(numbers)):
            store.leases.release(f"session-{session}")

    def label() -> None:
        number = next(numbers)
        (card,) = queue.lease_cards(store, project, "pair", "Bob", f"session-{number}", 1, tickets=tickets).cards
        begun = time.perf_counter()
        annotate.record(
            store, project, card.item_id, "Bob", "a", [response.id for response in card.responses],
            client_id=f"client-{number}", session=f"session-{number}",
        )
        label_times.append(1000 * (time.perf_counter() - begun))

    label_times: list[float] = []
    median_ms(label, min(calls, size // 10))
    figures["label"] = statistics.median(label_times)
    figures["progress"] = median_ms(lambda: annotate.progress(store, project, ANNOTATOR), calls)
    figures["last 20 labels"] = median_ms(lambda: annotate.recent(store, project, "Bob", tickets), calls // 10)
    store.close()
    return figures


def median_ms(call: Callable[[], object], calls: int) -> float:
    """Return the median time of a call in milliseconds."""
    times = []
    for _ in range(calls):
        begun = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times)


def fill(store: Store, size: int) -> int:
    """Make a project of pairs with margins, a tenth of them labelled by the annotator; return its id.

    In statements of its own, a million items at once: one by one it would take minutes.
    """
    project = store.projects.ensure("Large")
    with store.transaction() as db:
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        db.execute(
            f"{numbers} INSERT INTO prompts (id, project_id, messages, content_hash, created_at)"
            " SELECT i, ?, '[{\"role\": \"user\", \"content\": \"Question ' || i || '?\"}]', i, 0 FROM n",
            [size, project.id],
        )
        db.execute(
            f"{numbers} INSERT INTO responses (id, prompt_id, text, content_hash, created_at)"
            " SELECT i, (i + 1) / 2, 'Answer ' || i, i, 0 FROM n",
            [2 * size],
        )
        db.execute(
            f"{numbers} INSERT INTO items (id, project_id, prompt_id, kind, response_key, position, wanted_labels, margin,"
            " contradiction, created_at) SELECT i, ?, i, 'pair', (2 * i - 1) || ',' || (2 * i),"
            " (i * 7919 % 1000003) / 1000003.0, ?, (i * 104729 % 1000003) / 1e5 - 5, (i * 1299709 % 1000003) / 1e6, 0 FROM n",
            [size, project.id, LABELS_PER_ITEM],
        )
        db.execute(
            f"{numbers} INSERT INTO item_responses (item_id, position, response_id) SELECT (i + 1) / 2, (i + 1) % 2, i FROM n",
            [2 * size],
        )
        db.execute(
            "INSERT INTO labels (client_id, item_id, annotator, verdict, shown_response_ids, source, created_at)"
            " SELECT 'first-' || id, id, ?, 'tie', '[' || response_key || ']', 'person', 0 FROM items"
            f" WHERE id % {LABELLED_SHARE} = 0",
            [ANNOTATOR],
        )
    return project.id


if __name__ == "__main__":
    main()
