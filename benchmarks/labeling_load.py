"""Fifty annotators at once without think time, while a training run writes metrics: labels a second, and how long each took.

    python -m benchmarks.labeling_load [--annotators 50] [--labels 10000] [--json]

The whole app is served in a process of its own; the annotators are one process with a connection each, asking for
cards as the page does and answering each at once; a third process writes a run's metrics, ten steps a second. At the
end every label is looked for in the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click

from benchmarks.labeling import spread
from storage import Store
from tests.labeling_page import fill

ROOT = Path(__file__).resolve().parents[1]
AHEAD = 9
METRICS_EVERY_SECONDS = 0.1


def main() -> None:
    """Print the figures."""
    command()


@click.command()
@click.option("--annotators", default=50, help="Annotators at once, without think time.")
@click.option("--labels", default=10_000, help="Labels they give together.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object as the last line.")
def command(annotators: int, labels: int, as_json: bool) -> None:
    """Measure a loaded server and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        with store.transaction():
            project = fill(store, pairs=labels, singles=0)
        run = store.runs.create(project, "dpo", "demo", {}, [])
        with served(folder) as port, writing_metrics(store, run.id):
            seconds, times, sent = asyncio.run(label_all(port, project, annotators))
        figures = check(store, project, run.id, sent)
        store.close()
    figures |= {"labels_per_second": round(len(sent) / seconds, 1), "record": spread(times)}
    for name, figure in figures.items():
        click.echo(f"{name}: {figure}")
    if as_json:
        click.echo(json.dumps(figures))


@contextlib.contextmanager
def served(folder: str) -> Iterator[int]:
    """Serve the app on a data folder in a process of its own; yield its port."""
    command = [sys.executable, "app.py", "serve", "--port", "0", "--data", folder]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = next(line for line in server.stdout if " is at http" in line)
            yield int(address.split(" is at http://")[1].split()[0].rsplit(":", 1)[1])
        finally:
            server.terminate()


@contextlib.contextmanager
def writing_metrics(store: Store, run_id: int) -> Iterator[None]:
    """Write metrics of a run from another process, as training does, until the block ends."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=write_metrics, args=(store.folder, run_id, stop))
    process.start()
    while not store.runs.metrics(run_id):
        time.sleep(0.05)
    try:
        yield
    finally:
        stop.set()
        process.join(30)


def write_metrics(folder: Path, run_id: int, stop) -> None:  # noqa: ANN001
    """Be a run: start, and write a step's metrics every tenth of a second."""
    store = Store(folder)
    store.runs.start(run_id, 1, 10**6)
    step = 0
    while not stop.wait(METRICS_EVERY_SECONDS):
        step += 1
        store.runs.add_metrics(run_id, step, {"loss": 0.5, "rewards/chosen": 0.1, "rewards/rejected": -0.1})
    store.close()


class Connection:
    """One kept-alive connection that posts JSON: as little work as can be, for the cores are the server's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def post(self, route: str, fields: dict) -> dict:
        """Return the answer; ends the benchmark when it is not 200."""
        body = json.dumps(fields).encode()
        head = f"POST /api/label/{route} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        self.writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        headers = await self.reader.readuntil(b"\r\n\r\n")
        length = int(headers.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        content = await self.reader.readexactly(length)
        if not headers.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{route} was answered with {headers[:40]!r} {content[:300]!r}")
        return json.loads(content)


async def label_all(port: int, project: int, annotators: int) -> tuple[float, list[float], list[tuple[str, int]]]:
    """Label until nothing is left; return seconds, milliseconds of each label, and (client id, item) of all."""
    times: list[float] = []
    sent: list[tuple[str, int]] = []

    async def annotator(number: int) -> None:
        connection = Connection(*await asyncio.open_connection("127.0.0.1", port))
        who = {"project": project, "annotator": f"Annotator {number}", "session": f"session-{number}"}
        while True:
            cards = (await connection.post("next", {**who, "kind": "pair", "count": AHEAD, "known": []}))["cards"]
            if not cards:
                return
            for card in cards:
                client_id = f"benchmark-{card['item_id']}-{number}"
                fields = {
                    **who, "item": card["item_id"], "ticket": card["ticket"], "word": "a", "client_id": client_id,
                    "shown": [response["id"] for response in card["responses"]], "active_seconds": 1.0,
                }
                begun = time.perf_counter()
                await connection.post("record", fields)
                times.append(1000 * (time.perf_counter() - begun))
                sent.append((client_id, card["item_id"]))

    start = time.perf_counter()
    await asyncio.gather(*(annotator(number) for number in range(annotators)))
    return time.perf_counter() - start, times, sent


def check(store: Store, project: int, run_id: int, sent: list[tuple[str, int]]) -> dict:
    """Look for every label that was sent: none lost, none doubled."""
    items = [item for _, item in sent]
    lost = sum(store.labels.by_client_id(client_id) is None for client_id, _ in sent)
    doubled = sum(store.items.get(item).label_count != 1 for item in set(items))
    stored = sum(store.labels.counts(project).values())
    if lost or doubled or stored != len(sent) or len(set(items)) != len(items):
        raise SystemExit(f"{len(sent)} labels were sent, {stored} stored; {lost} lost, {doubled} doubled.")
    return {"sent": len(sent), "stored": stored, "metric_rows_beside": len(store.runs.metrics(run_id))}


if __name__ == "__main__":
    main()
