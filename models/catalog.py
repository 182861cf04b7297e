"""What a model is called and where its files are. Does not know torch, and loads nothing but `config.json`.

A model is named as a user types it: "demo" (the small model in this repository), a folder, or a name on a
model hub such as "Qwen/Qwen3-0.6B".
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from errors import ModelError

DEMO = "demo"
DEMO_FOLDER = Path(__file__).resolve().parents[1] / "demo" / "model"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_HASHED_BYTES = 1 << 20


def resolve(model: str) -> str:
    """Return what a model can be loaded from: an absolute folder, or the hub name unchanged.

    Raises ModelError when it is neither "demo", nor a folder with a `config.json`, nor shaped like a hub name.
    """
    name = model.strip()
    if name == DEMO:
        if not (DEMO_FOLDER / "config.json").is_file():
            raise ModelError(f"The demo model is missing from {DEMO_FOLDER}. Build it with `python -m demo.build`.")
        return str(DEMO_FOLDER)
    if not name:
        raise ModelError('No model was named. Use "demo", a folder that holds a model, or a hub name like "org/name".')
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _checked(folder)
    if _HUB_NAME.fullmatch(name) and "--" not in name and ".." not in name:
        return name
    raise ModelError(
        f'There is no model "{name}": it is no folder here and no hub name. '
        'Use "demo", a folder that holds a model, or a hub name like "org/name".'
    )


def _checked(folder: Path) -> str:
    if (folder / "config.json").is_file():
        return str(folder.resolve())
    if (folder / ADAPTER_CONFIG).is_file():
        raise ModelError(f"{folder} holds an adapter, not a whole model. Name the base model it was trained on.")
    raise ModelError(f"{folder} has no config.json, so it is not a model. Choose the folder that holds one.")


def is_local(model: str) -> bool:
    """Say whether the model's files lie in a folder of this machine. Raises ModelError as `resolve` does."""
    return Path(resolve(model)).is_absolute()


def architecture(model: str) -> dict[str, Any]:
    """Return the model's `config.json`, or {} for a hub name, whose files are not looked up.

    Raises ModelError when the model is unknown or the file is not a JSON object.
    """
    resolved = resolve(model)
    if not Path(resolved).is_absolute():
        return {}
    path = Path(resolved) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}). Copy the model again.") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object. Copy the model again.")
    return config


def identity(model: str) -> str:
    """Return a text that is equal for equal models, wherever they lie.

    A hub name is its own identity. A folder's is made of its architecture and of its weight files: their sizes,
    and a mebibyte from both ends of each, so that it is quick for large models and still changes when the model
    is trained again. Raises ModelError as `architecture` does.
    """
    resolved = resolve(model)
    if not Path(resolved).is_absolute():
        return resolved
    config = {key: value for key, value in architecture(model).items() if key != "transformers_version"}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for path in sorted(path for pattern in _WEIGHTS for path in Path(resolved).glob(pattern)):
        try:
            digest.update(f"{path.name}:{path.stat().st_size}".encode())
            with path.open("rb") as file:
                digest.update(file.read(_HASHED_BYTES))
                file.seek(max(0, path.stat().st_size - _HASHED_BYTES))
                digest.update(file.read())
        except OSError as error:
            raise ModelError(f"{path} cannot be read ({error}). Check the file and its permissions.") from error
    return f"sha256:{digest.hexdigest()[:24]}"


def template_hash(model: str) -> str | None:
    """Return a text that is equal for equal chat templates; None for a hub name, or where the folder has none.

    Raises ModelError when the model is unknown or a file cannot be read.
    """
    resolved = resolve(model)
    if not Path(resolved).is_absolute():
        return None
    template, config = Path(resolved) / "chat_template.jinja", Path(resolved) / "tokenizer_config.json"
    try:
        if template.is_file():
            text = template.read_text(encoding="utf-8")
        elif config.is_file():
            text = json.dumps(json.loads(config.read_text(encoding="utf-8")).get("chat_template"))
        else:
            return None
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"The chat template in {resolved} cannot be read ({error}). Copy the model again.") from error
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def adapter_hash(folder: Path) -> str:
    """Return a text that is equal for equal adapters: a hash of all bytes of the two files that answer.

    Stored with an answer it tells later whether the same adapter would answer again. Raises ModelError when one of
    the files is missing or cannot be read.
    """
    digest = hashlib.sha256()
    for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG):
        path = folder / name
        try:
            with path.open("rb") as file:
                digest.update(f"{name}:{path.stat().st_size}".encode())
                while block := file.read(_HASHED_BYTES):
                    digest.update(block)
        except OSError as error:
            raise ModelError(f"The adapter's {path} cannot be read ({error}). Train it again.") from error
    return f"sha256:{digest.hexdigest()[:24]}"
