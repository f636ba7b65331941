"""Publishing: one guarded commit, and what is known after each way in which it can fail."""

import hashlib

import pytest
from huggingface_hub import HfApi

from bot.errors import Broken, Busy, Forbidden, LeaseLost, Moved, Rejected, Transient, Unknown
from bot.localhub import Fault
from bot.reasons import Reason

from .conftest import door, push, safetensors

REPO = "stockpot/soup"
COMMIT = r"POST /api/models/stockpot/soup/commit/"
WEIGHTS = safetensors({"a": (50, 50)}, b"\5")
CARD = b"---\nlicense: mit\n---\n# Soup\n"


def free():
    """The fence of a coordinator that holds its lease."""


def lost():
    raise LeaseLost(1, 2)


@pytest.fixture
def head(hub):
    hub.ensure_repo(REPO, True, fence=free)
    return hub.head(REPO)


def publish(hub, parent, files=None, **options):
    files = files or {"README.md": CARD, "provenance.json": b'{"digest": "d"}'}
    return hub.commit(REPO, files, parent=parent, message="Version 1", fence=free, **options)


def commits(server):
    api = HfApi(endpoint=server.url, token=server.token("bot"))
    return [commit.title for commit in api.list_repo_commits(REPO)]


def test_a_repository_is_created_once_and_private(server, hub, head):
    assert hub.info(REPO).private
    hub.ensure_repo(REPO, False, fence=free)
    assert hub.info(REPO).private
    assert hub.head(REPO) == head
    hub.set_private(REPO, False, fence=free)
    assert not hub.info(REPO).private
    hub.set_private(REPO, False, fence=lost)  # nothing is left to be written


def test_files_arrive_in_one_commit_with_their_hashes(server, hub, head, tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(WEIGHTS)
    files = {"README.md": CARD, "model.safetensors": weights, "provenance.json": b'{"digest": "d"}'}

    hub.upload_files(REPO, files, fence=free)
    sha = publish(hub, head, files)

    assert hub.head(REPO) == sha
    assert commits(server) == ["Version 1", "initial commit"]
    remote = hub.remote_files(REPO, sha)
    assert remote["model.safetensors"].sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert hub.read_bytes(REPO, sha, "provenance.json", 100) == files["provenance.json"]
    assert "provenance.json" not in hub.remote_files(REPO, head)
    got = tmp_path / "got"
    hub.fetch(REPO, sha, list(remote.values()), got)
    assert (got / "model.safetensors").read_bytes() == WEIGHTS


def test_files_can_be_deleted_and_the_same_commit_twice_is_one(server, hub, head):
    first = publish(hub, head, {"a.txt": b"a", "b.txt": b"b"})
    second = publish(hub, first, {"c.txt": b"c"}, delete=["a.txt"])

    assert {"b.txt", "c.txt"} == set(hub.remote_files(REPO, second)) - {".gitattributes"}
    assert publish(hub, second, {"c.txt": b"c"}) == second
    assert len(commits(server)) == 3


def test_a_stale_parent_is_moved(server, hub, head):
    publish(hub, head, {"a.txt": b"a"})
    with pytest.raises(Moved):
        publish(hub, head, {"b.txt": b"b"})


def test_a_locked_repository_is_busy(server, hub, head):
    server.inject(Fault(COMMIT, "status", status=409))
    with pytest.raises(Busy):
        publish(hub, head)
    publish(hub, head)


def test_a_lost_answer_is_unknown_and_the_commit_is_there(server, hub, head):
    server.inject(Fault(COMMIT, "lose"))
    with pytest.raises(Unknown):
        publish(hub, head)
    assert "provenance.json" in hub.remote_files(REPO, hub.head(REPO))
    assert commits(server) == ["Version 1", "initial commit"]


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_a_server_error_on_a_commit_is_unknown_and_not_repeated(server, hub, head, status):
    server.inject(Fault(COMMIT, "status", 9, status=status, headers={"Retry-After": "7"}))
    server.forget_requests()
    with pytest.raises(Unknown):
        publish(hub, head)
    assert len([r for r in server.requests if "/commit/" in r.path]) == 1


def test_a_commit_without_an_answer_in_time_is_unknown(server, tmp_path, hub, head):
    server.inject(Fault(COMMIT, "hang"))
    with pytest.raises(Unknown):
        publish(door(server, tmp_path, timeout=0.2), head)


def test_a_truncated_answer_to_a_commit_is_unknown(server, hub, head):
    server.inject(Fault(COMMIT, "truncate"))
    with pytest.raises(Unknown):
        publish(hub, head)


def test_an_unreadable_answer_to_a_commit_is_unknown(server, hub, head):
    server.inject(Fault(COMMIT, "status", status=200))
    with pytest.raises(Unknown):
        publish(hub, head)


def test_a_rate_limited_commit_did_not_happen(server, hub, head):
    server.inject(Fault(COMMIT, "status", status=429, headers={"Retry-After": "60"}))
    with pytest.raises(Transient) as told:
        publish(hub, head)
    assert told.value.retry_after == 60


@pytest.mark.parametrize("status", [413, 402, 422])
def test_quota_and_size_refusals_block_the_publication(server, hub, head, status):
    server.inject(Fault(COMMIT, "status", status=status))
    with pytest.raises(Rejected) as refused:
        publish(hub, head)
    assert refused.value.code is Reason.HUB_REFUSED


def test_a_card_that_the_hub_refuses_blocks_the_publication(server, hub, head):
    with pytest.raises(Rejected) as refused:
        publish(hub, head, {"README.md": b"---\nlicense: [\n---\n"})
    assert refused.value.code is Reason.HUB_REFUSED
    assert hub.head(REPO) == head


def test_errors_before_the_commit_are_transient(server, hub, head):
    server.inject(Fault(r"POST /api/models/stockpot/soup/preupload/", "status", 9, status=500))
    with pytest.raises(Transient):
        publish(hub, head)
    assert hub.head(REPO) == head


def test_a_lost_lease_stops_every_write_before_it_is_sent(server, hub, head):
    server.forget_requests()
    writes = (
        lambda: hub.commit(REPO, {"a": b"a"}, parent=head, message="m", fence=lost),
        lambda: hub.upload_files(REPO, {"a": b"a"}, fence=lost),
        lambda: hub.tag(REPO, "v1", head, fence=lost),
        lambda: hub.set_private(REPO, False, fence=lost),
        lambda: hub.ensure_repo("stockpot/new", True, fence=lost),
    )
    for write in writes:
        with pytest.raises(LeaseLost):
            write()
    assert {request.method for request in server.requests} <= {"GET", "HEAD"}


def test_the_fence_is_asked_between_preparation_and_commit(server, hub, head):
    asked = []

    def until_the_last():
        asked.append(len(server.requests))
        if any("/preupload/" in request.path for request in server.requests[-2:]):
            raise LeaseLost(1, 2)

    with pytest.raises(LeaseLost):
        hub.commit(REPO, {"a": b"a"}, parent=head, message="m", fence=until_the_last)
    assert len(asked) >= 2
    assert hub.head(REPO) == head


def test_tags_are_idempotent_by_value(server, hub, head):
    hub.tag(REPO, "v1", head, fence=free)
    hub.tag(REPO, "v1", head, fence=free)
    assert hub.tags(REPO) == {"v1": head}
    other = publish(hub, head)
    with pytest.raises(Broken):
        hub.tag(REPO, "v1", other, fence=free)


def test_foreign_and_read_only_repositories_are_forbidden(server, hub, head, tmp_path):
    sha = push(server, "tiny/one", {})
    assert hub.can_write(REPO)
    assert hub.can_write("stockpot/not-yet")
    assert not hub.can_write("tiny/one")
    assert not hub.can_write("tiny/not-yet")
    assert not door(server, tmp_path, None).can_write(REPO)
    with pytest.raises(Forbidden):
        hub.commit("tiny/one", {"a": b"a"}, parent=sha, message="m", fence=free)


def test_whoami_is_asked_once(server, hub):
    server.forget_requests()
    assert hub.whoami().name == "bot"
    assert hub.whoami().orgs == ("stockpot",)
    assert len(server.requests) == 1


def test_what_cannot_be_sent_is_our_own_fault(hub, tmp_path):
    with pytest.raises(Broken):
        hub.commit(REPO, {"a": b"a"}, parent="main", message="m", fence=free)
    with pytest.raises(Broken):
        hub.commit(REPO, {"../a": b"a"}, parent="0" * 40, message="m", fence=free)
    with pytest.raises(Broken):
        hub.commit(REPO, {"a": tmp_path / "none"}, parent="0" * 40, message="m", fence=free)


def test_the_token_appears_in_no_error(server, tmp_path):
    secret = server.token("bot")
    hub = door(server, tmp_path)
    server.revoke("bot")
    with pytest.raises(Forbidden) as told:
        hub.whoami()
    error = told.value
    while error is not None:
        assert secret not in str(error) + repr(error)
        error = error.__cause__
