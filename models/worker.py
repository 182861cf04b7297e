"""The process that generates text: `python -m models.worker --model demo --adapters data/runs`.

Owns the life of the process: its port (announced as one line of JSON on standard output), its token (from the
environment), its log (standard error) and its end. Does not know how text is made or served.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from errors import ModelError
from models.process import ERROR_PREFIX, MODEL_FAULT, TOKEN_VARIABLE

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop: by SIGTERM, or by the end of the parent. Returns the exit code."""
    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: _leave(0))  # until the server has its own way to end
    if options.exit_with_parent:
        threading.Thread(target=_exit_with_parent, name="parent", daemon=True).start()
    token = os.environ.pop(TOKEN_VARIABLE, "")
    if not token:
        print(f"{ERROR_PREFIX}{TOKEN_VARIABLE} is not set: the token that requests must bring.", file=sys.stderr)
        return 2
    try:
        listener = socket.create_server(("127.0.0.1", options.port), backlog=256)
    except OSError as error:
        print(f"{ERROR_PREFIX}Port {options.port} cannot be used ({error}). Use --port 0.", file=sys.stderr)
        return 2
    _announce(listener.getsockname()[1])
    _serve(options, token, listener)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.worker", description="Serve a model and its adapters.")
    parser.add_argument("--model", required=True, help='"demo", a folder or a hub name')
    parser.add_argument("--adapters", required=True, type=Path, help="folder that holds run-<id>/adapter")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--port", default=0, type=int, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--exit-with-parent", action="store_true", help="end when standard input is closed")
    return parser.parse_args(arguments)


def _announce(port: int) -> None:
    """Say the port, then send whatever else is printed to the log: nobody reads the pipe any more."""
    print(json.dumps({"port": port}), flush=True)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def _serve(options: argparse.Namespace, token: str, listener: socket.socket) -> None:
    import uvicorn

    from models.service import Service
    from models.serving import build_app

    service = Service(options.model, options.adapters, options.device)
    # A stream in flight must not keep the process from ending.
    config = uvicorn.Config(
        build_app(service, token), log_config=None, log_level="warning", timeout_graceful_shutdown=1, lifespan="off"
    )
    threading.Thread(target=_load, args=[service], name="loader", daemon=True).start()
    uvicorn.Server(config).run(sockets=[listener])
    if service.engine is not None:
        service.engine.close()


def _load(service: object) -> None:
    """Load the model; when that fails, end the process with one line that says why."""
    try:
        service.load()  # type: ignore[attr-defined]
        # The libraries' objects stay: looking through all of them again stops an answer for a tenth of a second.
        gc.collect()
        gc.freeze()
        _log.info("ready")
    except ModelError as error:
        print(f"{ERROR_PREFIX}{error}", file=sys.stderr)
        _leave(MODEL_FAULT)
    except BaseException as error:
        _log.exception("loading failed")
        print(f"{ERROR_PREFIX}Loading failed: {type(error).__name__}: {error}", file=sys.stderr)
        _leave(1)


def _exit_with_parent() -> None:
    sys.stdin.buffer.read()
    _leave(0)


def _leave(code: int) -> None:
    """End the process at once, from any thread: there is nothing to save, and a graceful end may wait for ever."""
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
