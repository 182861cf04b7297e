"""Does the server's memory grow while 300 people have the page open for an hour? The hour's requests, as fast as they go.

    python -m benchmarks.labeling_sessions [--sessions 300] [--minutes 60] [--json]

Each session loads the page, runs its load event, keeps Gradio's heartbeat stream open, and then does what the page
does: progress every 15 seconds, a renewal of its cards every 75, a label every 12. Resident memory of the server
process is read after each tenth of the hour.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from benchmarks.labeling_load import ROOT, Connection
from benchmarks.labeling_size import fill
from storage import Store

PROGRESS_SECONDS, RENEW_SECONDS, LABEL_SECONDS = 15, 75, 12
PARTS = 10


def main() -> None:
    """Print the figures."""
    command()


@click.command()
@click.option("--sessions", default=300, help="Pages that are open at once.")
@click.option("--minutes", default=60, help="How long they are open; the requests of that time are sent at once.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object as the last line.")
def command(sessions: int, minutes: int, as_json: bool) -> None:
    """Measure the server's memory and print it."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        project = fill(store, 2 * sessions * minutes * 60 // LABEL_SECONDS)
        store.close()
        command_line = [sys.executable, "app.py", "serve", "--port", "0", "--data", folder]
        with subprocess.Popen(command_line, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
            try:
                address = next(line for line in server.stdout if " is at http" in line)
                port = int(address.split(" is at http://")[1].split()[0].rsplit(":", 1)[1])
                figures = asyncio.run(hour(port, server.pid, project, sessions, minutes))
            finally:
                server.terminate()
    click.echo("resident MB: " + ", ".join(f"{name} {value:.0f}" for name, value in figures["megabytes"].items()))
    click.echo(f"{figures['requests']:,} requests; last tenth of the hour over the first: {figures['ratio']:.3f}")
    if as_json:
        click.echo(json.dumps(figures))


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


async def hour(port: int, pid: int, project: int, sessions: int, minutes: int) -> dict:
    """Open the sessions and send what they would send in that time; return what memory there was in between."""
    megabytes = {"at the start": resident_mb(pid)}
    pages = await asyncio.gather(*(Page.open(port, project, number) for number in range(sessions)))
    megabytes["all open"] = resident_mb(pid)
    for part in range(1, PARTS + 1):
        await asyncio.gather(*(page.live(minutes * 60 // PARTS) for page in pages))
        megabytes[f"{minutes * part // PARTS} min"] = resident_mb(pid)
    first, last = megabytes[f"{minutes // PARTS} min"], megabytes[f"{minutes} min"]
    return {"megabytes": megabytes, "requests": sum(page.requests for page in pages), "ratio": last / first}


class Page:
    """One open page: its heartbeat stream, its connection for labels, and its clock."""

    def __init__(self, project: int, number: int, connection: Connection) -> None:
        self.who = {"project": project, "annotator": f"Annotator {number}", "session": f"session-{number}"}
        self.connection = connection
        self.cards: list[dict] = []
        self.clock = self.requests = 0

    @classmethod
    async def open(cls, port: int, project: int, number: int) -> Page:
        """Load the page and its configuration, run its load event, and keep the heartbeat open."""
        page = cls(project, number, Connection(*await asyncio.open_connection("127.0.0.1", port)))
        await fetch(port, "GET", "/")
        config = json.loads(await fetch(port, "GET", "/config"))
        load = next(event["id"] for event in config["dependencies"] if event["backend_fn"] and any(target[1] == "load" for target in event["targets"]))
        name = f"session{number}"
        event = {"data": [{}], "fn_index": load, "session_hash": name}
        await fetch(port, "POST", "/gradio_api/queue/join", json.dumps(event))
        page.heartbeat = await asyncio.open_connection("127.0.0.1", port)
        page.heartbeat[1].write(f"GET /gradio_api/heartbeat/{name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return page

    async def live(self, seconds: int) -> None:
        """Send what the page sends in that time."""
        for self.clock in range(self.clock + 1, self.clock + seconds + 1):
            if self.clock % PROGRESS_SECONDS == 0:
                await self.post("progress", {})
            if self.clock % RENEW_SECONDS == 0 or not self.cards:
                known = [card["key"] for card in self.cards]
                lease = await self.post("next", {"kind": "pair", "count": 9, "known": known})
                self.cards += lease["cards"]
            if self.clock % LABEL_SECONDS == 0 and self.cards:
                card = self.cards.pop(0)
                await self.post("record", {
                    "item": card["item_id"], "ticket": card["ticket"], "word": "a", "active_seconds": 9.0,
                    "shown": [response["id"] for response in card["responses"]],
                    "client_id": f"{self.who['session']}-{self.clock}",
                })  # fmt: skip

    async def post(self, route: str, fields: dict) -> dict:
        """Send one request and count it."""
        self.requests += 1
        return await self.connection.post(route, {**self.who, **fields})


async def fetch(port: int, method: str, path: str, body: str = "") -> bytes:
    """Return the body of one response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode())
    answer = await reader.read()
    writer.close()
    status, _, content = answer.partition(b"\r\n\r\n")
    if b" 200 " not in status.split(b"\r\n")[0]:
        raise SystemExit(f"{path} was answered with {status[:60]!r} {content[:200]!r}")
    return content


if __name__ == "__main__":
    main()
