"""Hub servers that speak less of the protocol: no filter, no order, no expand, no sizes, no Xet."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from huggingface_hub import constants

from bot.hub import Hub
from bot.localhub import LocalHub

from .conftest import BASE, door, safetensors

SHA = "a" * 40
CARDS: dict[str, dict[str, object] | None] = {
    "tiny/fine": {"base_model": BASE, "license": "MIT"},
    "tiny/list": {"base_model": [BASE]},
    "tiny/merge": {"base_model": [BASE, "tiny/other"]},
    "tiny/adapter": {"base_model": BASE, "base_model_relation": "adapter"},
    "tiny/other": {"base_model": "tiny/elsewhere"},
    "tiny/bare": None,
    "tiny/odd": {"base_model": {"a": 1}, "license": 7},
}


class Terse(BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.partition("?")[0]
        name = "/".join(path.split("/")[3:5])
        if path == "/api/models":
            self._answer(
                [{"id": repo} for repo in CARDS] + [{"id": "../evil"}, {"id": "tiny/fine"}]
            )
        elif "/tree/" in path:
            oid = hashlib.sha1(b"blob 2\0{}").hexdigest()
            self._answer([{"type": "file", "path": "config.json", "size": 2, "oid": oid}])
        else:
            siblings = [{"rfilename": "config.json"}]
            self._answer({"id": name, "sha": SHA, "cardData": CARDS[name], "siblings": siblings})

    def _answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def terse(tmp_path) -> Iterator[Hub]:
    with HTTPServer(("127.0.0.1", 0), Terse) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield Hub(f"http://127.0.0.1:{server.server_port}", None, tmp_path, pause=0)
        server.shutdown()
        thread.join()


def test_lineage_is_checked_on_our_side(terse):
    assert [s.repo for s in terse.finetunes(BASE)] == ["tiny/fine", "tiny/list"]


def test_sizes_and_hashes_come_from_the_tree_where_info_has_none(terse):
    facts = terse.info("tiny/fine")
    assert facts.licence == "mit"
    assert facts.file("config.json").size == 2
    assert facts.file("config.json").digest.startswith("git:")


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own LFS code
def test_a_hub_without_xet_gets_plain_uploads(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    with LocalHub(tmp_path / "server", users={"bot": ["stockpot"]}, xet=False) as server:
        hub = door(server, tmp_path)
        hub.ensure_repo("stockpot/soup", True, fence=lambda: None)
        files = {"model.safetensors": safetensors({"a": (10, 10)})}
        parent = hub.head("stockpot/soup")
        hub.upload_files("stockpot/soup", files, fence=lambda: None)
        sha = hub.commit("stockpot/soup", files, parent=parent, message="m", fence=lambda: None)
        remote = hub.remote_files("stockpot/soup", sha)
        hub.fetch("stockpot/soup", sha, list(remote.values()), tmp_path / "got")
    assert (tmp_path / "got" / "model.safetensors").read_bytes() == files["model.safetensors"]
