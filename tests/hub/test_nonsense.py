"""A Hub whose answers are JSON, and nonsense; and mistakes of our own, which are no answers."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bot.errors import Fault, Transient
from bot.hub import Hub
from bot.hub.facts import FileFact

from .conftest import BASE

SHA = "a" * 40
FILE = {"rfilename": 1, "size": "x", "lfs": 7, "blobId": []}
ENTRY = {"type": "file", "path": 5, "size": None, "oid": {}, "lfs": {"oid": 1}}
ANSWERS = [
    "",
    "nonsense",
    *(
        json.dumps(value)
        for value in (
            None, 1, 1e400, "x", [], {}, [None], [1], [[]], ["x"], [{}], {"sha": 1}, {"id": 1},
            [{"id": "tiny/one", "tags": 1}], [{"type": "file"}], [ENTRY], [{"type": 1, "path": 2}],
            {"id": "tiny/one", "sha": SHA, "siblings": [1]},
            {"id": "tiny/one", "sha": SHA, "siblings": {"a": 1}},
            {"id": "tiny/one", "sha": SHA, "siblings": [FILE]},
            {"id": "tiny/one", "sha": SHA, "cardData": [1], "tags": {"a": 1}, "lastModified": 9},
            {"tags": 1}, {"tags": [1]}, {"tags": [{"name": 1}]}, {"tags": {"name": 1}},
            {"name": 1, "orgs": 1}, {"name": "bot", "orgs": [1]}, {"name": "bot", "auth": [1]},
            {"orgs": []}, {"name": "bot", "auth": {"accessToken": "x"}},
            {"files": 1}, {"files": [{}]}, {"files": [1]}, {"objects": [1]},
            {"commitOid": 5}, {"commitUrl": 1, "commitOid": SHA}, {"url": 1}, {"error": {"a": 1}},
        )
    ),
]  # fmt: skip


@contextmanager
def answering(text: str, status: int, **headers: str) -> Iterator[str]:
    """A server that says this, whatever it is asked."""

    class Parrot(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            for name, value in headers.items():
                self.send_header(name, value.format(host=self.headers["Host"]))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text.encode())

        do_HEAD = do_POST = do_PUT = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Parrot) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def calls(hub: Hub, folder) -> dict[str, Callable[[], object]]:
    one, fence = "tiny/one", lambda: None
    return {
        "finetunes": lambda: list(hub.finetunes(BASE)),
        "info": lambda: hub.info(one),
        "pinned": lambda: hub.info(one, SHA),
        "head": lambda: hub.head(one),
        "read_json": lambda: hub.read_json(one, SHA, "config.json"),
        "fetch": lambda: hub.fetch(one, SHA, [FileFact("a.json", 3, None, "b" * 40)], folder),
        "whoami": hub.whoami,
        "can_write": lambda: hub.can_write(one),
        "ensure_repo": lambda: hub.ensure_repo(one, True, fence=fence),
        "set_private": lambda: hub.set_private(one, True, fence=fence),
        "upload": lambda: hub.upload_files(one, {"a.safetensors": b"x" * 9}, fence=fence),
        "commit": lambda: hub.commit(
            one, {"a.json": b"{}"}, parent=SHA, message="m", fence=fence
        ),
        "tags": lambda: hub.tags(one),
        "tag": lambda: hub.tag(one, "v1", SHA, fence=fence),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # the client's own, about what it reads
@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("answer", ANSWERS)
def test_nonsense_is_nobodys_bug(tmp_path, answer, status):
    with answering(answer, status) as url:
        for name, call in calls(Hub(url, "hf_x", tmp_path, pause=0.0), tmp_path / "x").items():
            try:
                with suppress(Fault):
                    call()
            except Exception as error:
                raise AssertionError(f"{name} of {answer!r}") from error


MISTAKES: dict[str, Callable[[Hub], object]] = {
    "no such method": lambda hub: hub.api.conjure("tiny/one"),
    "no such argument": lambda hub: hub.api.model_info("tiny/one", spell=1),
    "an index of our own": lambda hub: {}["tiny/one"],
}


def after_an_answer(hub: Hub, mistake: str, fence) -> None:
    with hub.calling("x", fence):
        hub.api.whoami()
        MISTAKES[mistake](hub)


@pytest.mark.parametrize("fence", [None, lambda: None], ids=["reading", "writing"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_our_own_is_not_the_hubs(hub, mistake, fence):
    """Nor is one that the client finds before it has asked anything."""
    with pytest.raises((TypeError, AttributeError, LookupError)), hub.calling("x", fence):
        MISTAKES[mistake](hub)
    if mistake != "no such argument":
        with pytest.raises((AttributeError, LookupError)):
            after_an_answer(hub, mistake, fence)


@pytest.mark.parametrize(
    ("answer", "call"),
    [
        ('{"name": "bot", "orgs": [1]}', "whoami"),
        ('{"orgs": []}', "whoami"),
        ("[1]", "whoami"),
        ('{"tags": [{"name": 1}]}', "tags"),
        ("[1]", "tags"),
        ("null", "info"),
        ("[1]", "pinned"),
        ("[[1]]", "finetunes"),
    ],
)
def test_what_has_another_form_is_transient_or_nothing(tmp_path, answer, call):
    """Nothing: a line of a listing that says nothing is passed over."""
    with answering(answer, 200) as url:
        run = calls(Hub(url, "hf_x", tmp_path, pause=0.0), tmp_path / "x")[call]
        if call == "finetunes":
            assert run() == []
            return
        with pytest.raises(Transient):
            run()


@pytest.mark.parametrize("page", ["[]", "[1]"])
@pytest.mark.parametrize("next_page", ["http://{host}/api/models?cursor=x", "/api/models?cursor=x"])
def test_a_listing_that_goes_round_in_a_circle_is_left(tmp_path, page, next_page):
    with answering(page, 200, Link=f'<{next_page}>; rel="next"') as url:
        hub = Hub(url, "hf_x", tmp_path, pause=0.0)
        with pytest.raises(Transient, match="twice"):
            list(hub.finetunes(BASE))
