"""A real Hub on loopback, and the door in front of the real client."""

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from bot.hub import Hub
from bot.localhub import LocalHub

BASE = "tiny/base"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalHub]:
    users = {"alice": ["tiny"], "bot": ["stockpot"]}
    with LocalHub(tmp_path / "server", users=users) as running:
        yield running


@pytest.fixture
def hub(server: LocalHub, tmp_path: Path) -> Hub:
    return door(server, tmp_path)


def door(server: LocalHub, folder: Path, user: str | None = "bot", **options) -> Hub:
    token = server.token(user) if user else None
    return Hub(server.url, token, folder / "cache", pause=0.0, **options)


def safetensors(values: dict[str, tuple[int, ...]], fill: bytes = b"\0", extra: str = "") -> bytes:
    """A float32 safetensors file of the given shapes, every byte `fill`."""
    header: dict[str, object] = {"__metadata__": {"note": extra}} if extra else {}
    at = 0
    for name, shape in values.items():
        size = 4
        for n in shape:
            size *= n
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + fill * at


def push(
    server: LocalHub,
    repo: str,
    files: dict[str, bytes | str],
    *,
    user: str = "alice",
    base: str | None = BASE,
    card: str = "",
) -> str:
    """Create `repo` with `files` and a card that names its base. Returns the sha."""
    api = HfApi(endpoint=server.url, token=server.token(user))
    api.create_repo(repo, exist_ok=True)
    front = "license: apache-2.0\n" + (f"base_model: {base}\n" if base else "") + card
    everything = {"README.md": f"---\n{front}---\n# {repo}\n", **files}
    operations = [
        CommitOperationAdd(path, text.encode() if isinstance(text, str) else text)
        for path, text in everything.items()
    ]
    return str(api.create_commit(repo, operations, commit_message="add").oid)


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
