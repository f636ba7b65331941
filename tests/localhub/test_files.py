"""Reading: trees, contents, ranges, and whole models through the libraries that use them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, constants
from huggingface_hub.errors import RemoteEntryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import get_session

from .conftest import CARD, put, safetensors_bytes


def test_contents_come_back_with_sums_that_match(api, repo, transport, tmp_path):
    content = {
        "README.md": CARD,
        "model.safetensors": os.urandom(300_000),
        "deep/er/vocab.txt": b"a\nb\n",
        "empty.txt": b"",
    }
    steps = [CommitOperationAdd(path, data) for path, data in content.items()]
    sha = api.create_commit(repo, steps, commit_message="All").oid
    folder = Path(api.snapshot_download(repo, revision=sha, local_dir=tmp_path / "copy"))
    for path, data in content.items():
        assert (folder / path).read_bytes() == data
    checked = api.verify_repo_checksums(repo, revision=sha, local_dir=folder)
    assert (checked.checked_count, checked.mismatches, checked.missing_paths) == (5, [], [])
    (folder / "model.safetensors").write_bytes(b"spoilt")
    assert api.verify_repo_checksums(repo, revision=sha, local_dir=folder).mismatches


def test_xet_files_are_there_for_plain_readers_too(api, hub, repo, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    data = os.urandom(200_000)
    put(api, repo, "model.safetensors", data)
    (entry,) = api.get_paths_info(repo, "model.safetensors")
    assert len(entry.xet_hash) == 64
    assert any("xet-write-token" in each.path for each in hub.requests)
    url = f"{hub.url}/{repo}/resolve/main/model.safetensors"
    head = get_session().head(url)
    assert head.headers["X-Xet-Hash"] == entry.xet_hash
    part = get_session().get(url, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, data[100:200])
    assert get_session().get(url).content == data


def test_xet_survives_several_versions_and_shared_chunks(api, repo, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    data = os.urandom(400_000)
    for number in range(3):
        put(api, repo, "model.safetensors", data + bytes([number]))
        path = api.hf_hub_download(repo, "model.safetensors", force_download=True)
        assert Path(path).read_bytes() == data + bytes([number])


def test_a_hub_without_xet_takes_lfs_uploads(tmp_path):
    from huggingface_hub import HfApi

    from bot.localhub import LocalHub

    with LocalHub(tmp_path / "plain", users={"alice": ["tiny"]}, xet=False) as hub:
        api = HfApi(endpoint=hub.url, token=hub.token("alice"))
        api.create_repo("tiny/base")
        put(api, "tiny/base", "model.safetensors", b"x" * 1000)
        (entry,) = api.get_paths_info("tiny/base", "model.safetensors")
        assert (entry.lfs.size, entry.xet_hash) == (1000, None)
        answer = get_session().get(f"{hub.url}/api/models/tiny/base/xet-read-token/main")
        assert answer.status_code == 404


def test_multipart_uploads_arrive_whole(api, hub, repo):
    hub.part_size = 10_000
    data = os.urandom(34_567)
    put(api, repo, "model.safetensors", data)
    parts = [each for each in hub.requests if each.method == "PUT" and "/_lfs/" in each.path]
    assert len(parts) == 4
    assert not any(each.had_token for each in parts)
    assert Path(api.hf_hub_download(repo, "model.safetensors")).read_bytes() == data


def test_an_upload_that_is_not_what_was_announced_is_refused(api, hub, repo):
    headers = {"Authorization": f"Bearer {hub.token('alice')}"}
    announced = hashlib.sha256(b"good").hexdigest()
    batch = get_session().post(
        f"{hub.url}/{repo}.git/info/lfs/objects/batch",
        headers=headers,
        json={
            "operation": "upload",
            "transfers": ["basic"],
            "objects": [{"oid": announced, "size": 4}],
        },
    )
    href = batch.json()["objects"][0]["actions"]["upload"]["href"]
    assert get_session().put(href, content=b"evil").status_code == 400
    verify = {"oid": announced, "size": 4}
    assert get_session().post(f"{hub.url}/_lfs-verify", json=verify).status_code == 404
    assert get_session().put(href, content=b"good").status_code == 200
    assert get_session().post(f"{hub.url}/_lfs-verify", json=verify).status_code == 200
    assert get_session().put(href, content=b"good").status_code == 404


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [
        ("bytes=0-3", 206, b"0123"),
        ("bytes=4-", 206, b"456789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=8-100", 206, b"89"),
        ("bytes=10-", 416, None),
        ("bytes=5-2", 416, None),
        ("lines=1-2", 200, b"0123456789"),
    ],
)
def test_ranges(api, hub, repo, asked, status, content):
    put(api, repo, "ten.txt", b"0123456789")
    answer = get_session().get(f"{hub.url}/{repo}/resolve/main/ten.txt", headers={"Range": asked})
    assert answer.status_code == status
    if content is not None:
        assert answer.content == content
        assert answer.headers["Content-Length"] == str(len(content))
    else:
        assert answer.headers["Content-Range"] == "bytes */10"


def test_head_says_what_a_download_needs(api, hub, repo):
    sha = put(api, repo, "model.safetensors", b"weights")
    url = f"{hub.url}/{repo}/resolve/main/model.safetensors"
    head = get_session().head(url, headers={"Accept-Encoding": "identity"})
    digest = hashlib.sha256(b"weights").hexdigest()
    assert head.headers["ETag"] == head.headers["X-Linked-Etag"] == f'"{digest}"'
    assert head.headers["X-Linked-Size"] == head.headers["Content-Length"] == "7"
    assert head.headers["X-Repo-Commit"] == sha
    again = get_session().get(url, headers={"If-None-Match": head.headers["ETag"]})
    assert again.status_code == 304


def test_what_is_missing_says_which_part_is(api, hub, repo):
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download(repo, "none.txt")
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download(repo, "README.md", revision="none")
    missing = get_session().head(f"{hub.url}/{repo}/resolve/main/none.txt")
    assert missing.headers["X-Repo-Commit"] == api.model_info(repo).sha
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree(repo, "none"))


def test_trees_in_every_shape(api, hub, repo):
    names = [f"folder/{number}.txt" for number in range(7)] + ["folder/deep/x.txt", "top.txt"]
    steps = [CommitOperationAdd(name, name.encode()) for name in names]
    sha = api.create_commit(repo, steps, commit_message="Many").oid
    hub.page_size = 2
    top = {entry.path for entry in api.list_repo_tree(repo)}
    assert top == {".gitattributes", "folder", "top.txt"}
    everything = [entry.path for entry in api.list_repo_tree(repo, recursive=True)]
    assert everything == sorted([*names, ".gitattributes", "folder", "folder/deep"])
    below = {entry.path for entry in api.list_repo_tree(repo, "folder/deep", revision=sha)}
    assert below == {"folder/deep/x.txt"}
    assert set(api.list_repo_files(repo)) == {*names, ".gitattributes"}


def test_paths_info_leaves_out_what_is_missing(api, repo):
    first = put(api, repo, "a.txt", b"a")
    put(api, repo, "b/c.txt", b"c")
    found = api.get_paths_info(repo, ["a.txt", "none", "b"], expand=True)
    assert [entry.path for entry in found] == ["a.txt", "b"]
    assert (found[0].size, found[0].last_commit.oid) == (1, first)
    assert found[0].blob_id == hashlib.sha1(b"blob 1\0a").hexdigest()


def test_safetensors_headers_without_download(api, hub, repo):
    put(api, repo, "model.safetensors", safetensors_bytes(a=[3, 4], b=[5]))
    hub.forget_requests()
    metadata = api.get_safetensors_metadata(repo)
    assert metadata.parameter_count == {"F32": 17}
    assert api.model_info(repo).safetensors.total == 17
    assert all(each.method == "HEAD" or each.status in (200, 206) for each in hub.requests)


def test_downloads_are_counted_by_config(api, hub, repo):
    put(api, repo, "config.json", b"{}")
    put(api, repo, "model.safetensors", b"weights")
    api.snapshot_download(repo)
    assert api.model_info(repo).downloads == hub.downloads(repo) == 1


def test_transformers_loads_a_model_from_here(api, hub, repo, tmp_path, monkeypatch):
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)
    config = LlamaConfig(
        vocab_size=11,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(tmp_path / "model")
    api.upload_folder(repo_id=repo, folder_path=tmp_path / "model")
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)  # HF_ENDPOINT, read when imported
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    loaded = AutoModelForCausalLM.from_pretrained(
        repo, revision=api.model_info(repo).sha, cache_dir=tmp_path / "cache", token=False
    )
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    info = api.model_info(repo)
    assert info.config["model_type"] == "llama"
    assert {"safetensors", "llama"} <= set(info.tags)
    assert any(not each.had_token and "model.safetensors" in each.path for each in hub.requests)
