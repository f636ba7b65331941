"""Hub servers that speak less of the protocol: no filter, no order, no expand, no sizes, no Xet."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from huggingface_hub import constants

from bot.errors import Rejected, Unknown
from bot.hub import Hub
from bot.localhub import LocalHub

from .conftest import BASE, door, push, safetensors
from .lesser import ABSENT, Accent, lesser

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
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
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


# -- a Hub that leaves things out, or says them differently ----------------------------------------

CARD = b"---\nlicense: mit\nbase_model: tiny/base\n---\n# ours\n"
WEIGHTS = safetensors({"a": (10, 10)})


def go() -> None:
    """A lease that is never lost."""


def publish(hub: Hub, parent: str | None = None) -> str:
    hub.ensure_repo("stockpot/soup", True, fence=go)
    files = {"model.safetensors": WEIGHTS, "README.md": CARD}
    hub.upload_files("stockpot/soup", files, fence=go)
    parent = hub.head("stockpot/soup")
    return hub.commit("stockpot/soup", files, parent=parent, message="m", fence=go)


@pytest.fixture
def through(server, tmp_path, monkeypatch):
    """A door that sees the local Hub through a proxy with an accent."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    opened = []

    def make(accent: Accent) -> Hub:
        proxy = lesser(server.url, accent)
        opened.append(proxy)
        return Hub(proxy.__enter__(), server.token("bot"), tmp_path / "cache", pause=0)

    yield make
    for proxy in opened:
        proxy.__exit__(None, None, None)


def seen_whole(hub: Hub, sha: str, folder) -> bool:
    remote = hub.remote_files("stockpot/soup", sha)
    hub.fetch("stockpot/soup", sha, list(remote.values()), folder)
    return (folder / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
@pytest.mark.parametrize(("status", "code"), [(404, None), (404, "EntryNotFound"), (405, None)])
def test_what_is_absent_is_done_without(through, tmp_path, status, code):
    """No card check, no question of rights, no Xet, no expand: a soup gets up and down."""
    accent = Accent(absent=ABSENT[:3], status=status, code=code)
    hub = through(accent)
    assert hub.can_write("stockpot/soup")
    assert not hub.can_write("tiny/base")
    sha = publish(hub)
    hub.tag("stockpot/soup", "v1", sha, fence=go)
    hub.set_private("stockpot/soup", False, fence=go)
    assert hub.tags("stockpot/soup") == {"v1": sha}
    assert seen_whole(hub, sha, tmp_path / "got")
    assert all(any(part in line for line in accent.seen) for part in ABSENT[:3])


def test_expand_may_be_refused(through, server):
    push(server, "tiny/fine", {})
    hub = through(Accent(absent=("expand=",), status=400))
    assert hub.head("tiny/fine") is not None
    assert [seen.repo for seen in hub.finetunes(BASE)] == ["tiny/fine"]


def _dates(how):
    def change(path, told):
        for one in told if isinstance(told, list) else [told]:
            for name in ("createdAt", "lastModified"):
                if name in one:
                    one[name] = how(one[name])
        return told

    return change


@pytest.mark.parametrize(
    "how",
    [
        lambda text: text.replace("Z", "+00:00"),
        lambda text: text[:19] + "Z",
        lambda text: text.replace("Z", "123456Z"),
        lambda text: text.replace("Z", ""),
    ],
    ids=["offset", "seconds", "nanoseconds", "no zone"],
)
def test_times_are_read_in_any_iso_form(through, server, hub, how):
    push(server, "tiny/fine", {})
    (expected,) = hub.finetunes(BASE)
    (found,) = through(Accent(answer=_dates(how))).finetunes(BASE)
    assert found.repo == "tiny/fine"
    assert found.created_at.replace(microsecond=0) == expected.created_at.replace(microsecond=0)


@pytest.mark.parametrize("how", [lambda text: "yesterday", lambda text: 1_700_000_000, _dates])
def test_a_time_that_nobody_can_read_hides_no_repository(through, server, how):
    push(server, "tiny/fine", {})
    answer = _dates(lambda text: None if how is _dates else how(text))
    hub = through(Accent(answer=answer))
    assert [seen.repo for seen in hub.finetunes(BASE)] == ["tiny/fine"]
    assert hub.info("tiny/fine").repo == "tiny/fine"


def test_a_commit_that_is_not_named_is_unknown_and_was_made(through):
    def nameless(path, told):
        return {"success": True} if "/commit/" in path else told

    hub = through(Accent(answer=nameless))
    hub.ensure_repo("stockpot/soup", True, fence=go)
    before = hub.head("stockpot/soup")
    with pytest.raises(Unknown):
        publish(hub)
    assert hub.head("stockpot/soup") != before


def test_a_hub_that_knows_private_but_not_visibility(through):
    def ignores(path, asked):
        asked.pop("visibility", None)
        return asked

    hub = through(Accent(request=ignores))
    publish(hub)
    for private in (True, False):
        hub.set_private("stockpot/soup", private, fence=go)
        assert hub.info("stockpot/soup").private is private


def test_a_visibility_that_does_not_change_is_told(through):
    def stays(path, told):
        return {**told, "private": True} if path.startswith("/api/models/") else told

    hub = through(Accent(answer=stays))
    publish(hub)
    with pytest.raises(Rejected, match="does not become public"):
        hub.set_private("stockpot/soup", False, fence=go)


def test_refs_need_no_more_than_tags(through):
    def few(path, told):
        return {"tags": told["tags"]} if path.endswith("/refs") else told

    hub = through(Accent(answer=few))
    sha = publish(hub)
    hub.tag("stockpot/soup", "v1", sha, fence=go)
    assert hub.tags("stockpot/soup") == {"v1": sha}


def _terse(path, told):
    """Sizes, but no hash of any kind on the page."""
    for file in told.get("siblings", ()) if isinstance(told, dict) else ():
        file.pop("lfs", None)
        file.pop("blobId", None)
    return told


def _no_hashes(path, told):
    if "/tree/" in path:
        return [{**one, "oid": None, "lfs": None} for one in told]
    return _terse(path, told)


@pytest.mark.parametrize("answer", [_terse, _no_hashes], ids=["on the page", "anywhere"])
def test_hashes_may_be_missing(through, tmp_path, answer):
    hub = through(Accent(answer=answer))
    sha = publish(hub)
    assert seen_whole(hub, sha, tmp_path / "got")
    known = hub.remote_files("stockpot/soup", sha)["model.safetensors"].sha256
    assert (known is None) == (answer is _no_hashes)


def _plain_sha1(path, told):
    for file in told.get("siblings", ()) if isinstance(told, dict) else ():
        if file.get("rfilename") == "README.md" and "blobId" in file:
            file["blobId"] = hashlib.sha1(CARD).hexdigest()
    return told


def _sha256(path, told):
    for file in told.get("siblings", ()) if isinstance(told, dict) else ():
        if file.get("rfilename") == "README.md" and "blobId" in file:
            file["blobId"] = hashlib.sha256(CARD).hexdigest()
    return told


@pytest.mark.parametrize("answer", [_plain_sha1, _sha256])
def test_small_files_may_be_named_by_another_hash(through, tmp_path, answer):
    hub = through(Accent(answer=answer))
    assert seen_whole(hub, publish(hub), tmp_path / "got")


def _without(*names: str):
    return lambda headers: {k: v for k, v in headers.items() if k not in names}


def _weak(headers):
    return {k: f"W/{v}" if k == "etag" else v for k, v in headers.items()}


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
@pytest.mark.parametrize(
    "headers",
    [
        _without("x-linked-etag", "x-linked-size", "x-xet-hash", "link"),
        _without("accept-ranges", "x-linked-size"),
        _weak,
    ],
    ids=["nothing linked", "no ranges", "weak tags"],
)
def test_headers_of_downloads_may_be_few_or_odd(through, tmp_path, headers):
    hub = through(Accent(headers=headers))
    assert seen_whole(hub, publish(hub), tmp_path / "got")
