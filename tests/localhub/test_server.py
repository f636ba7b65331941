"""Starting, stopping, starting again; several processes at once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import get_session, httpx

from bot.localhub import LocalHub
from bot.localhub.database import Database

from .conftest import CARD, put

SERVE = "import sys; from bot.localhub import serve; serve(sys.argv[1], port=int(sys.argv[2]))"
UPLOAD = """
import os, sys
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import get_session, httpx
url, token, name = sys.argv[1:]
api = HfApi(endpoint=url, token=token)
data = os.urandom(200_000)
folder = os.path.join(os.environ["HF_HOME"], "up")
os.makedirs(folder)
open(os.path.join(folder, "model.safetensors"), "wb").write(data)
api.create_repo(name)
api.upload_folder(repo_id=name, folder_path=folder)
path = api.hf_hub_download(name, "model.safetensors")
assert open(path, "rb").read() == data
"""


def test_everything_is_there_after_a_restart(tmp_path, transport):
    users = {"alice": ["tiny"], "bob": []}
    with LocalHub(tmp_path / "hub", users=users) as hub:
        token = hub.token("alice")
        api = HfApi(endpoint=hub.url, token=token)
        api.create_repo("tiny/base", private=True)
        old = put(api, "tiny/base", "model.safetensors", b"old weights")
        new = put(api, "tiny/base", "model.safetensors", b"new weights")
        put(api, "tiny/base", "README.md", CARD)
        api.create_tag("tiny/base", tag="v1", revision=old)
        api.create_discussion("tiny/base", "A question")
        api.create_webhook(url="http://127.0.0.1:9/", watched=[{"type": "user", "name": "bob"}])
    with LocalHub(tmp_path / "hub") as hub:
        api = HfApi(endpoint=hub.url, token=token)
        assert api.model_info("tiny/base").tags == ["safetensors", "license:mit"]
        for revision, content in (
            (old, b"old weights"),
            (new, b"new weights"),
            ("v1", b"old weights"),
        ):
            path = api.hf_hub_download("tiny/base", "model.safetensors", revision=revision)
            assert Path(path).read_bytes() == content
        assert len(list(api.get_repo_discussions("tiny/base"))) == 1
        assert len(api.list_webhooks()) == 1
        assert len(api.list_repo_commits("tiny/base")) == 4
        assert not list(HfApi(endpoint=hub.url, token=hub.token("bob")).list_models())


def serving(folder: Path, code: str = SERVE) -> tuple[subprocess.Popen[str], str]:
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), "0"], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    url = child.stdout.readline().rsplit(" ", 1)[1].strip()
    assert "owner.token" in child.stdout.readline(), "every line is there before it serves"
    return child, url


def stop(child: subprocess.Popen[str], how: int = signal.SIGTERM) -> int:
    child.send_signal(how)
    code = child.wait(20)
    assert child.stdout is not None
    child.stdout.close()
    return code


def test_serving_from_a_process_of_its_own(tmp_path, transport):
    folder = tmp_path / "hub"
    child, url = serving(folder)
    try:
        file = folder / "owner.token"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        api = HfApi(endpoint=url, token=file.read_text())
        assert api.whoami()["name"] == "owner"
        api.create_repo("owner/base")
        sha = put(api, "owner/base", "model.safetensors", b"weights")
    finally:
        stop(child, signal.SIGKILL)
    child, url = serving(folder)
    try:
        api = HfApi(endpoint=url, token=file.read_text())
        path = api.hf_hub_download("owner/base", "model.safetensors", revision=sha)
        assert Path(path).read_bytes() == b"weights"
    finally:
        code = stop(child)
    assert code == 0


def commit(url: str, token: str, text: str) -> str:
    """A commit without the client's patient retries; its sha."""
    lines = (
        {"key": "header", "value": {"summary": text}},
        {"key": "file", "value": {"path": "a.txt", "content": text, "encoding": "utf-8"}},
    )
    answer = get_session().post(
        f"{url}/api/models/owner/base/commit/main",
        headers={"Authorization": f"Bearer {token}"},
        content="\n".join(json.dumps(line) for line in lines).encode(),
    )
    return answer.raise_for_status().json()["commitOid"]


def test_a_killed_server_has_every_version_it_confirmed(tmp_path):
    folder = tmp_path / "hub"
    confirmed: dict[str, str] = {}
    for round_ in range(3):
        child, url = serving(folder)
        token = (folder / "owner.token").read_text()
        HfApi(endpoint=url, token=token).create_repo("owner/base", exist_ok=True)
        killer = threading.Timer(0.2 + 0.13 * round_, child.kill)
        killer.start()
        with contextlib.suppress(httpx.TransportError):  # until the server is gone
            for number in range(100_000):
                text = f"{round_}-{number}"
                confirmed[commit(url, token, text)] = text
        killer.join()
        stop(child)
    child, url = serving(folder)
    try:
        history = HfApi(endpoint=url, token=False).list_repo_commits("owner/base")
        assert set(confirmed) <= {each.commit_id for each in history}
        for sha, text in confirmed.items():
            assert get_session().get(f"{url}/owner/base/resolve/{sha}/a.txt").text == text
    finally:
        stop(child)
    assert len(confirmed) > 3


SERVE_USERS = (
    "import sys; from bot.cli.app import app; "
    "app(['hub', 'serve', '--dir', sys.argv[1], '--port', sys.argv[2], "
    "'--user', 'alice=acme,tiny', '--user', 'bob'])"
)


def test_accounts_are_named_on_the_command_line(tmp_path):
    folder = tmp_path / "hub"
    tokens = []
    for _ in range(2):  # the same again after a restart
        child, url = serving(folder, SERVE_USERS)
        try:
            alice, bob = ((folder / f"{name}.token").read_text() for name in ("alice", "bob"))
            tokens.append((alice, bob))
            HfApi(endpoint=url, token=alice).create_repo("acme/secret", private=True, exist_ok=True)
            assert HfApi(endpoint=url, token=alice).repo_exists("acme/secret")
            assert not HfApi(endpoint=url, token=bob).repo_exists("acme/secret")
            with pytest.raises(HfHubHTTPError, match="acme"):
                HfApi(endpoint=url, token=bob).create_repo("acme/other")
            assert (folder / "alice.token").stat().st_mode & 0o077 == 0
        finally:
            stop(child)
    assert tokens[0] == tokens[1]


def test_the_address_is_the_one_by_which_the_client_came(hub):
    other = hub.url.replace("127.0.0.1", "localhost")
    api = HfApi(endpoint=other, token=hub.token("alice"))
    assert api.create_repo("tiny/base").endpoint == other
    hub.page_size = 1
    api.create_repo("tiny/more")
    assert len(list(api.list_models())) == 2
    put(api, "tiny/base", "model.safetensors", b"weights")


def test_several_processes_use_xet_at_once(hub, tmp_path):
    """hf-xet locks its index; nobody may be handed the same one."""
    token = hub.token("alice")
    children = []
    for number in range(3):
        environment = {**os.environ, "HF_HOME": str(tmp_path / f"home{number}")}
        environment.pop("HF_HUB_DISABLE_XET", None)
        command = [sys.executable, "-c", UPLOAD, hub.url, token, f"tiny/m{number}"]
        children.append(
            subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        )
    for child in children:
        _, errors = child.communicate(timeout=120)
        assert child.returncode == 0, errors
    api = HfApi(endpoint=hub.url, token=token)
    hashes = [api.get_paths_info(f"tiny/m{n}", "model.safetensors")[0].xet_hash for n in range(3)]
    assert len({*hashes, None}) == 4


def test_the_command_line_of_the_client(hub, tmp_path):
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": hub.token("alice"),
        "HF_HOME": str(tmp_path / "home"),
    }
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "model.safetensors").write_bytes(b"weights")
    hf = str(Path(sys.executable).parent / "hf")
    for command in (
        ["repos", "create", "tiny/base"],
        ["upload", "tiny/base", str(tmp_path / "up")],
        ["download", "tiny/base", "--local-dir", str(tmp_path / "down")],
    ):
        subprocess.run([hf, *command], env=environment, check=True, capture_output=True)
    assert (tmp_path / "down" / "model.safetensors").read_bytes() == b"weights"


def test_names_that_addresses_need_are_no_accounts(hub):
    for name in ("api", "datasets", "_style.css", "a/b", ""):
        with pytest.raises(ValueError, match="not a name"):
            hub.add_user(name)
    with pytest.raises(ValueError, match="is a org already"):
        hub.add_user("tiny")


def test_a_database_of_a_newer_program_is_left_alone(tmp_path):
    database = Database(tmp_path / "hub.sqlite3")
    with database.transaction() as db:
        db.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(RuntimeError, match="newer"):
        Database(tmp_path / "hub.sqlite3")


def test_a_failed_transaction_leaves_nothing(tmp_path):
    database = Database(tmp_path / "hub.sqlite3")

    def fail() -> None:
        with database.transaction() as db:
            db.execute("INSERT INTO accounts VALUES ('a', 'user', '')")
            with database.transaction() as inner:
                inner.execute("INSERT INTO accounts VALUES ('b', 'user', '')")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with database.transaction() as db:
        assert db.execute("SELECT count(*) FROM accounts").fetchone()[0] == 0
    database.close()
