"""Faults reach the client as the real thing would, and leave the server in order."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import get_session, httpx

from bot.localhub import Fault

from .conftest import CARD, put


def test_a_status_fires_as_often_as_told_and_does_nothing_else(api, hub, repo):
    hub.inject(Fault(r"POST .*/commit/", "status", times=2, status=409))
    for _ in range(2):
        with pytest.raises(HfHubHTTPError) as error:
            put(api, repo, "a.txt", b"a")
        assert error.value.response.status_code == 409
    assert len(api.list_repo_commits(repo)) == 1
    put(api, repo, "a.txt", b"a")
    assert len(api.list_repo_commits(repo)) == 2


def test_a_rate_limit_makes_the_client_wait(api, hub, repo):
    headers = {"RateLimit": '"api";r=0;t=1'}
    hub.inject(Fault(r"GET /api/models$", "status", status=429, headers=headers))
    before = time.monotonic()
    assert [model.id for model in api.list_models()] == [repo]
    assert time.monotonic() - before >= 1


def test_a_lost_answer_is_a_commit_nevertheless(api, hub, repo):
    hub.inject(Fault(r"POST .*/commit/", "lose"))
    with pytest.raises(httpx.RemoteProtocolError):
        put(api, repo, "a.txt", b"a")
    assert [commit.title for commit in api.list_repo_commits(repo)][1:] == ["initial commit"]
    assert "a.txt" in api.list_repo_files(repo)
    assert [each.status for each in hub.requests if "/commit/" in each.path] == [None]


def test_a_connection_that_is_cut_did_nothing(api, hub, repo):
    hub.inject(Fault(r"POST .*/commit/", "cut"))
    with pytest.raises(httpx.HTTPError):
        put(api, repo, "a.txt", b"a")
    assert [commit.title for commit in api.list_repo_commits(repo)] == ["initial commit"]
    assert api.model_info(repo).id == repo


def test_a_hanging_server_runs_into_the_clients_timeout(api, hub, repo):
    hub.inject(Fault(r"GET /api/models/", "hang"))
    with pytest.raises(httpx.TimeoutException):
        api.model_info(repo, timeout=0.2)
    assert api.model_info(repo).id == repo


def test_a_truncated_download_is_tried_again(api, hub, repo):
    put(api, repo, "model.safetensors", bytes(100_000))
    hub.inject(Fault(r"GET .*/resolve/", "truncate"))
    path = api.hf_hub_download(repo, "model.safetensors")
    assert Path(path).read_bytes() == bytes(100_000)
    assert len([each for each in hub.requests if each.method == "GET"]) >= 2


def test_corruption_keeps_the_length(api, hub, repo):
    put(api, repo, "model.safetensors", bytes(1000))
    hub.inject(Fault(r"GET .*/resolve/", "corrupt"))
    content = Path(api.hf_hub_download(repo, "model.safetensors")).read_bytes()
    assert len(content) == 1000
    assert content != bytes(1000)
    (mismatch,) = api.verify_repo_checksums(repo).mismatches
    assert mismatch["path"] == "model.safetensors"


def test_slow_and_stale(api, hub, repo):
    old = api.model_info(repo).sha
    new = put(api, repo, "README.md", CARD)
    hub.inject(Fault(r"GET /api/models/tiny", "slow", seconds=0.3))
    before = time.monotonic()
    assert api.model_info(repo).sha == new
    assert time.monotonic() - before >= 0.3
    hub.inject(Fault(r"GET /api/models/tiny", "stale", times=2))
    assert api.model_info(repo).sha == old
    assert api.model_info(repo, revision=new).sha == new
    assert api.model_info(repo).sha == new


def test_reordered_lists(api, hub):
    for name in "abc":
        api.create_repo(f"tiny/{name}")
    straight = [model.id for model in api.list_models()]
    hub.inject(Fault(r"GET /api/models$", "reorder"))
    assert [model.id for model in api.list_models()] == straight[::-1]


def test_faults_can_be_called_off(api, hub, repo):
    hub.inject(Fault(".*", "status", times=99, status=500))
    with pytest.raises(HfHubHTTPError):
        api.model_info(repo)
    hub.clear_faults()
    assert api.model_info(repo).id == repo


def test_the_log_knows_who_had_a_token(hub, api, repo):
    hub.forget_requests()
    api.model_info(repo)
    get_session().get(f"{hub.url}/api/models?limit=1")
    first, second = hub.requests
    assert (first.method, first.path, first.status) == ("GET", f"/api/models/{repo}", 200)
    assert (first.had_token, second.had_token, second.query) == (True, False, "limit=1")
