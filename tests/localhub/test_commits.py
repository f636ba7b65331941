"""Writing: commits, their parents, pull of paths, branches, tags, history."""

from __future__ import annotations

import contextlib
import json
import threading

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    constants,
)
from huggingface_hub.errors import (
    BadRequestError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import CARD, put


def status(error: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return error.value.response.status_code


def read(api, repo, path, revision=None) -> bytes:
    with open(api.hf_hub_download(repo, path, revision=revision), "rb") as file:
        return file.read()


def commit_url(hub, repo, revision="main"):
    return f"{hub.url}/api/models/{repo}/commit/{revision}"


def raw_commit(hub, repo, *lines):
    """A commit as bytes on the wire, for what the client would not send."""
    header = {"key": "header", "value": {"summary": "raw"}}
    body = "\n".join(json.dumps(line) for line in (header, *lines))
    return get_session().post(
        commit_url(hub, repo),
        headers={
            "Authorization": f"Bearer {hub.token('alice')}",
            "Content-Type": "application/x-ndjson",
        },
        content=body.encode(),
    )


def test_a_commit_adds_deletes_and_copies(api, repo):
    put(api, repo, "a.txt", b"a")
    put(api, repo, "old/b.txt", b"b")
    put(api, repo, "old/c.txt", b"c")
    done = api.create_commit(
        repo,
        [
            CommitOperationAdd("d.txt", b"d"),
            CommitOperationCopy("a.txt", "copy.txt"),
            CommitOperationDelete("a.txt"),
            CommitOperationDelete("old/", is_folder=True),
        ],
        commit_message="Tidy up",
        commit_description="for good",
    )
    assert set(api.list_repo_files(repo)) == {".gitattributes", "copy.txt", "d.txt"}
    assert read(api, repo, "copy.txt") == b"a"
    newest = api.list_repo_commits(repo)[0]
    assert (newest.commit_id, newest.title) == (done.oid, "Tidy up")
    assert (newest.message, newest.authors) == ("for good", ["alice"])


def test_files_are_copied_between_repositories(api, repo, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    put(api, repo, "model.safetensors", b"weights" * 100)
    put(api, repo, "a.txt", b"a")
    api.create_repo("tiny/copy")
    steps = [
        CommitOperationCopy(path, path, src_repo_id=repo, src_repo_type="model")
        for path in ("model.safetensors", "a.txt")
    ]
    api.create_commit("tiny/copy", steps, commit_message="Copy")
    assert read(api, "tiny/copy", "model.safetensors") == b"weights" * 100
    assert read(api, "tiny/copy", "a.txt") == b"a"


def test_a_stale_parent_is_412_and_nothing_changes(api, repo):
    first = api.model_info(repo).sha
    second = put(api, repo, "a.txt", b"a", parent_commit=first)
    with pytest.raises(HfHubHTTPError) as error:
        put(api, repo, "b.txt", b"b", parent_commit=first)
    assert status(error) == 412
    assert "A commit has happened since" in str(error.value)
    assert api.model_info(repo).sha == second
    assert put(api, repo, "b.txt", b"b", parent_commit=second[:7]) != second


def test_a_commit_during_a_commit_is_409(api, hub, repo):
    """The first commit is held open by sending half of its body."""
    started, go_on = threading.Event(), threading.Event()

    def body():
        yield b'{"key": "header", "value": {"summary": "slow"}}\n'
        started.set()
        assert go_on.wait(10)
        yield b'{"key": "file", "value": {"path": "slow.txt", "content": "slow"}}\n'

    def slow() -> None:
        answers.append(
            get_session().post(
                commit_url(hub, repo),
                headers={"Authorization": f"Bearer {hub.token('alice')}"},
                content=body(),
            )
        )

    answers: list = []
    thread = threading.Thread(target=slow)
    thread.start()
    assert started.wait(10)

    def until_refused() -> None:  # the server may not have seen the first commit's beginning yet
        for number in range(100):
            put(api, repo, "quick.txt", b"%d" % number)

    with pytest.raises(HfHubHTTPError, match="Another commit operation") as error:
        until_refused()
    assert status(error) == 409
    go_on.set()
    thread.join()
    assert answers[0].status_code == 200
    put(api, repo, "quick.txt", b"quick")
    assert {"slow.txt", "quick.txt"} <= set(api.list_repo_files(repo))


def test_unchanged_files_make_no_commit(api, repo, transport):
    content = {"README.md": CARD, "model.safetensors": bytes(1000)}

    def publish():
        steps = [CommitOperationAdd(path, data) for path, data in content.items()]
        return api.create_commit(repo, steps, commit_message="Publish").oid

    assert publish() == publish()
    assert len(api.list_repo_commits(repo)) == 2


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/x", "a//b", ".git/config", "", "a/./b"])
def test_paths_cannot_leave_the_repository(hub, repo, path):
    line = {"key": "file", "value": {"path": path, "content": "", "encoding": "base64"}}
    assert raw_commit(hub, repo, line).status_code == 400


def test_a_file_cannot_be_a_folder(hub, api, repo):
    put(api, repo, "a", b"file")
    line = {"key": "file", "value": {"path": "a/b", "content": "", "encoding": "base64"}}
    assert raw_commit(hub, repo, line).status_code == 400


@pytest.mark.parametrize(
    "line",
    [
        {"key": "lfsFile", "value": {"path": "a", "algo": "sha256", "oid": "0" * 64, "size": 3}},
        {"key": "file", "value": {"path": "a", "content": "!", "encoding": "base64"}},
        {"key": "file", "value": {"path": 3, "content": ""}},
        {"key": "file", "value": {"path": "\ud800", "content": ""}},
        {"key": "surprise", "value": {"path": "a"}},
        {"value": 3},
        [],
    ],
)
def test_nonsense_in_a_commit_is_400_and_changes_nothing(hub, api, repo, line):
    before = api.model_info(repo).sha
    answer = raw_commit(hub, repo, line)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert api.model_info(repo).sha == before


def test_deleting_what_is_not_there_is_an_error(api, repo):
    with pytest.raises(RemoteEntryNotFoundError):
        api.delete_file("none.txt", repo)
    with pytest.raises(RemoteEntryNotFoundError):
        api.delete_folder("none", repo)


BAD_CARDS = {
    "license: [": "Invalid",
    "license: my-own": r'"license" must be one of \[apache-2.0, mit,',
    "license: [mit, 3]": '"license" must be one of',
    "language: english": '"language" must be',
    "language: [en, zh-Hant]": '"language" must be',
}


def test_a_bad_card_is_refused_before_anything_is_sent(api, repo):
    for card, said in BAD_CARDS.items():
        with pytest.raises(ValueError, match=said):
            put(api, repo, "README.md", f"---\n{card}\n---\n".encode())
    assert len(api.list_repo_commits(repo)) == 1


def test_branches_and_tags(api, repo):
    first = put(api, repo, "a.txt", b"first")
    api.create_branch(repo, branch="try/this")
    api.create_tag(repo, tag="v1", tag_message="one")
    second = put(api, repo, "a.txt", b"second")
    on_branch = put(api, repo, "a.txt", b"branch", revision="try/this")
    assert read(api, repo, "a.txt", "v1") == b"first"
    assert read(api, repo, "a.txt", "try/this") == b"branch"
    refs = api.list_repo_refs(repo)
    assert {(ref.name, ref.target_commit) for ref in refs.branches} == {
        ("main", second),
        ("try/this", on_branch),
    }
    assert [(ref.name, ref.ref, ref.target_commit) for ref in refs.tags] == [
        ("v1", "refs/tags/v1", first)
    ]
    for again in (api.create_branch, api.create_tag):
        kind = "branch" if again == api.create_branch else "tag"
        name = "try/this" if kind == "branch" else "v1"
        with pytest.raises(HfHubHTTPError) as error:
            again(repo, **{kind: name})
        assert status(error) == 409
        again(repo, **{kind: name}, exist_ok=True)
    api.delete_branch(repo, branch="try/this")
    api.delete_tag(repo, tag="v1")
    for gone in ("try/this", "v1"):
        with pytest.raises(RevisionNotFoundError):
            api.model_info(repo, revision=gone)
    assert api.model_info(repo, revision=on_branch).sha == on_branch
    with pytest.raises(HfHubHTTPError):
        api.delete_branch(repo, branch="main")


def test_tags_take_no_commits(api, repo):
    sha = put(api, repo, "a.txt", b"a")
    api.create_tag(repo, tag="v1")
    for revision in ("v1", "refs/tags/v1"):
        with pytest.raises(BadRequestError):
            put(api, repo, "a.txt", b"b", revision=revision)
    assert api.model_info(repo, revision="v1").sha == sha


def test_a_hostile_card_can_be_committed_and_listed(api, repo):
    put(api, repo, "config.json", b'{"model_type": "\\ud800", "auto_map": {"a": 1e999}}')
    put(api, repo, "README.md", b'---\ntags: ["\\uD800"]\n---\n')
    assert [model.id for model in api.list_models(full=True, cardData=True)] == [repo]


def test_a_client_that_leaves_in_the_middle_frees_the_repository(api, hub, repo):
    def body():
        yield b'{"key": "header", "value": {"summary": "never"}}\n'
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get_session().post(
            commit_url(hub, repo),
            headers={"Authorization": f"Bearer {hub.token('alice')}"},
            content=body(),
        )
    for _ in range(100):
        with contextlib.suppress(HfHubHTTPError):  # 409 until the server has noticed
            put(api, repo, "a.txt", b"a")
            break
    assert "a.txt" in api.list_repo_files(repo)


def test_unknown_revisions(api, as_user, repo):
    api.create_repo("tiny/other")
    foreign = api.model_info("tiny/other").sha
    for revision in ("none", "0" * 40, foreign):
        with pytest.raises(RevisionNotFoundError):
            api.model_info(repo, revision=revision)


def test_history_can_be_squashed(api, repo):
    old = put(api, repo, "a.txt", b"a")
    api.super_squash_history(repo, commit_message="All at once")
    assert [each.title for each in api.list_repo_commits(repo)] == ["All at once"]
    assert read(api, repo, "a.txt") == b"a"
    assert read(api, repo, "a.txt", old) == b"a"


def test_git_ignore_is_obeyed(api, repo, tmp_path):
    folder = tmp_path / "up"
    (folder / "logs").mkdir(parents=True)
    for name in ("keep.txt", "drop.tmp", "logs/x.txt", "logs/keep.tmp"):
        (folder / name).write_text(name)
    (folder / ".gitignore").write_text("*.tmp\nlogs/\n!keep.tmp\n")
    api.upload_folder(repo_id=repo, folder_path=folder)
    assert {"keep.txt", ".gitignore"} <= set(api.list_repo_files(repo))
    assert "drop.tmp" not in api.list_repo_files(repo)
    assert "logs/x.txt" not in api.list_repo_files(repo)


def test_upload_folder_replaces_what_it_is_told_to(api, repo, tmp_path):
    put(api, repo, "old.safetensors", bytes(10))
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "new.safetensors").write_bytes(bytes(20))
    api.upload_folder(repo_id=repo, folder_path=tmp_path / "up", delete_patterns="*.safetensors")
    assert set(api.list_repo_files(repo)) == {".gitattributes", "new.safetensors"}


def test_bad_reference_names(api, repo):
    with pytest.raises(BadRequestError):
        api.create_tag(repo, tag="a..b")


# -- a law: whatever was committed reads back at its sha, for ever --------------------------------

NAMES = st.sampled_from(["a", "b.txt", "c.safetensors", "d/e", "d/f.bin", "é/ü", "x y"])
TREES = st.dictionaries(NAMES, st.binary(max_size=40), max_size=5)


@given(trees=st.lists(TREES, min_size=1, max_size=4))
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_every_version_reads_back_equal(api, hub, trees):
    repo = f"tiny/law-{len(list(api.list_models()))}"
    api.create_repo(repo)
    versions = {}
    present: set[str] = set()
    for number, tree in enumerate(trees):
        steps = [CommitOperationAdd(path, data) for path, data in tree.items()]
        steps += [CommitOperationDelete(path) for path in sorted(present - set(tree))]
        if not steps:
            continue
        done = api.create_commit(repo, steps, commit_message=f"version {number}")
        versions[done.oid] = tree
        present = set(tree)
    for sha, tree in versions.items():
        listed = {
            entry.path: entry for entry in api.list_repo_tree(repo, revision=sha, recursive=True)
        }
        files = {path for path, entry in listed.items() if hasattr(entry, "size")}
        assert files - {".gitattributes"} == set(tree)
        for path, data in tree.items():
            assert listed[path].size == len(data)
            url = f"{hub.url}/{repo}/resolve/{sha}/{path}"
            assert get_session().get(url).content == data
