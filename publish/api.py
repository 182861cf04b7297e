"""The models opened to other programs: an OpenAI-compatible server of one base model and its runs, behind a key.

Off unless somebody starts it. Owns the key, the address and the words about who can reach it. Importing it does not
import torch; serving does. The page's own workers are others, with keys of their own.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import string
from collections.abc import Callable

from models import catalog
from publish.source import PublishError
from storage import Store

KEY_VARIABLE = "PREFERENCE_STUDIO_API_KEY"
KEY_LENGTH = 16
MAKE_A_KEY = 'python -c "import secrets; print(secrets.token_urlsafe(32))"'
_KEY_CHARACTERS = frozenset(string.ascii_letters + string.digits + string.punctuation)


def take_key(variable: str = KEY_VARIABLE) -> str:
    """Return the key from an environment variable, and take it out of the environment: no other process needs it.

    Raises PublishError, without the key in its words, when there is none or one that is easy to guess.
    """
    key = os.environ.pop(variable, "")
    how = f"Make one with {MAKE_A_KEY} and put it into the environment variable {variable}."
    if not key:
        raise PublishError(f"{variable} is not set: the API needs a key that its users must bring. {how}")
    if len(key) < KEY_LENGTH or not set(key) <= _KEY_CHARACTERS:
        raise PublishError(
            f"The key in {variable} must have {KEY_LENGTH} or more letters, digits and signs, no blanks. {how}"
        )
    return key


def bind(host: str, port: int) -> socket.socket:
    """Open the listening socket; port 0 takes a free one. Raises PublishError when it cannot be had."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=256)
    except (OSError, OverflowError) as error:
        raise PublishError(
            f"Cannot listen on {host} port {port}: {getattr(error, 'strerror', None) or error}."
            " Choose another port with --port, or --port 0 for any free one."
        ) from error


def address_of(listener: socket.socket) -> str:
    """Return what programs are told as `base_url`."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


def warning(host: str) -> str:
    """Say who can reach a host that others can reach; "" for one that only this machine can."""
    if host == "localhost":
        return ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is not None and address.is_loopback:
        return ""
    everywhere = address is not None and address.is_unspecified
    who = "every network this machine is in" if everywhere else f"whoever can reach {host}"
    return (
        f"This is open to {who}: everybody there who knows the key can use the models, and the connection is not"
        " encrypted, so others on the way can read the key. Put a proxy with TLS before it, or use --host 127.0.0.1."
    )


def serve(
    store: Store, model: str, key: str, listener: socket.socket, device: str = "auto",
    ready: Callable[[list[str]], None] = lambda names: None,
) -> None:
    """Load a base model and serve it with its finished runs until interrupted; a run that finishes later is served too.

    key: what requests must bring as a bearer token. ready: gets the names that are served once they are.
    Raises ModelError when the base cannot be loaded.
    """
    catalog.resolve(model)  # a mistyped name is told before torch is loaded
    import uvicorn

    from models.serving import build_app
    from publish.served import PublishedService

    service = PublishedService(store, model, device)
    service.load()
    ready(service.names())
    # Neither logs nor headers tell more than they must: no access log, no name of the server.
    config = uvicorn.Config(
        build_app(service, key), log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=1, lifespan="off",
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        if service.engine is not None:
            service.engine.close()
