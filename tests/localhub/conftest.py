"""Every test talks to a real server over loopback with the unmodified client."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants

from bot.localhub import LocalHub

CARD = b"---\nlicense: mit\n---\n# A model\n"


@pytest.fixture(autouse=True)
def client_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the client's cache and tokens inside the test, and large files on the LFS path."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    # the client's own way of sending a body, of which its HTTP library disapproves
    warnings.filterwarnings("ignore", "Use 'content=", DeprecationWarning)


@pytest.fixture(params=["lfs", "xet"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test once per way in which large files travel."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", request.param == "lfs")
    return str(request.param)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    """alice writes in `tiny`; bob is a stranger."""
    with LocalHub(tmp_path / "hub", users={"alice": ["tiny"], "bob": []}) as running:
        yield running


@pytest.fixture
def as_user(hub: LocalHub, tmp_path: Path) -> Callable[..., HfApi]:
    def make(user: str | None, role: str = "write") -> HfApi:
        return HfApi(endpoint=hub.url, token=hub.token(user, role) if user else False)

    return make


@pytest.fixture
def api(as_user: Callable[..., HfApi]) -> HfApi:
    return as_user("alice")


@pytest.fixture
def repo(api: HfApi) -> str:
    api.create_repo("tiny/base")
    return "tiny/base"


def put(api: HfApi, repo_id: str, path: str, content: bytes, **options: object) -> str:
    """Commits one file; the new sha."""
    return api.upload_file(
        repo_id=repo_id, path_in_repo=path, path_or_fileobj=content, **options
    ).oid


def safetensors_bytes(**shapes: list[int]) -> bytes:
    """A float32 file of zeros."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + bytes(at)
