"""Discussions, pull requests, webhooks."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import CommitOperationAdd, WebhookPayload
from huggingface_hub.errors import HfHubHTTPError

from .conftest import CARD, put


def pull(api, repo, path, content, **options):
    step = CommitOperationAdd(path, content)
    return api.create_commit(repo, [step], commit_message=f"Set {path}", create_pr=True, **options)


def test_a_stranger_proposes_and_the_owner_merges(api, as_user, repo, transport):
    bob = as_user("bob")
    made = pull(bob, repo, "model.safetensors", bytes(500))
    assert (made.pr_num, made.pr_revision) == (1, "refs/pr/1")
    put(bob, repo, "README.md", CARD, revision="refs/pr/1")
    assert api.list_repo_files(repo) == [".gitattributes"]
    assert len(api.list_repo_files(repo, revision="refs/pr/1")) == 3
    details = api.get_discussion_details(repo, 1)
    assert (details.status, details.author, details.is_pull_request) == ("open", "bob", True)
    assert details.conflicting_files == []
    assert [event.type for event in details.events] == ["comment", "commit", "commit"]
    with pytest.raises(HfHubHTTPError):
        bob.merge_pull_request(repo, 1)
    api.merge_pull_request(repo, 1, comment="thanks")
    assert len(api.list_repo_files(repo)) == 3
    assert api.model_info(repo).tags == ["safetensors", "license:mit"]
    merged = api.get_discussion_details(repo, 1)
    assert merged.status == "merged"
    assert merged.merge_commit_oid == api.model_info(repo).sha
    assert api.list_repo_refs(repo, include_pull_requests=True).pull_requests


def test_conflicts_are_named_and_not_merged(api, as_user, repo):
    put(api, repo, "a.txt", b"base")
    pull(as_user("bob"), repo, "a.txt", b"theirs")
    put(api, repo, "a.txt", b"ours")
    put(api, repo, "other.txt", b"no matter")
    assert api.get_discussion_details(repo, 1).conflicting_files == ["a.txt"]
    with pytest.raises(HfHubHTTPError) as error:
        api.merge_pull_request(repo, 1)
    assert error.value.response.status_code == 409


def test_a_stranger_may_not_push_into_anothers_pull_request(api, as_user, repo, hub):
    hub.add_user("carol")
    pull(as_user("bob"), repo, "a.txt", b"a")
    with pytest.raises(HfHubHTTPError):
        put(as_user("carol"), repo, "b.txt", b"b", revision="refs/pr/1")


def test_upload_folder_as_a_pull_request(api, as_user, repo, tmp_path, transport):
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "model.safetensors").write_bytes(bytes(300))
    done = as_user("bob").upload_folder(repo_id=repo, folder_path=tmp_path / "up", create_pr=True)
    assert done.pr_num == 1
    assert "model.safetensors" in api.list_repo_files(repo, revision="refs/pr/1")
    assert "model.safetensors" not in api.list_repo_files(repo)


def test_discussions_live_their_life(api, as_user, repo):
    bob = as_user("bob")
    made = bob.create_discussion(repo, "How was this made?", description="Tell.")
    comment = api.comment_discussion(repo, made.num, "With care")
    api.edit_discussion_comment(repo, made.num, comment.id, "With great care")
    bob.rename_discussion(repo, made.num, "How is this made?")
    bob.change_discussion_status(repo, made.num, "closed", comment="Thanks")
    details = api.get_discussion_details(repo, made.num)
    assert (details.title, details.status) == ("How is this made?", "closed")
    assert [event.content for event in details.events if event.type == "comment"] == [
        *("Tell.", "With great care", "Thanks")
    ]
    with pytest.raises(HfHubHTTPError):
        bob.edit_discussion_comment(repo, made.num, comment.id, "Mine now")
    pull(bob, repo, "a.txt", b"a")
    assert [each.num for each in api.get_repo_discussions(repo)] == [2, 1]
    listed = api.get_repo_discussions
    assert [each.num for each in listed(repo, discussion_status="open")] == [2]
    assert [each.num for each in listed(repo, discussion_type="discussion")] == [1]
    assert not list(listed(repo, author="carol"))


def test_discussions_come_in_pages(api, hub, repo):
    for number in range(5):
        api.create_discussion(repo, f"Question {number}")
    hub.page_size = 2
    assert [each.num for each in api.get_repo_discussions(repo)] == [5, 4, 3, 2, 1]


# -- webhooks ---------------------------------------------------------------------------------


class Receiver:
    """A server that takes webhooks; the first `failures` are answered with 500."""

    def __init__(self, failures: int = 0) -> None:
        self.calls: queue.Queue[tuple[str | None, WebhookPayload]] = queue.Queue()
        self.failures = failures
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                failed, receiver.failures = receiver.failures > 0, receiver.failures - 1
                self.send_response(500 if failed else 200)
                self.end_headers()
                if not failed:
                    payload = WebhookPayload.model_validate(json.loads(body))
                    receiver.calls.put((self.headers["X-Webhook-Secret"], payload))

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def next(self) -> WebhookPayload:
        return self.calls.get(timeout=10)[1]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def watch(api, receiver, watched, **options):
    return api.create_webhook(url=receiver.url, watched=watched, **options)


ORG = [{"type": "org", "name": "tiny"}]


def test_a_push_is_told_with_old_and_new_sha(api, repo, receiver):
    watch(api, receiver, ORG, secret="hush")
    before = api.model_info(repo).sha
    after = put(api, repo, "README.md", CARD)
    secret, payload = receiver.calls.get(timeout=10)
    assert secret == "hush"
    assert (payload.event.scope, payload.event.action) == ("repo.content", "update")
    assert payload.repo.name == repo
    assert payload.repo.tags == ["license:mit"]
    (moved,) = payload.updatedRefs
    assert (moved.ref, moved.oldSha, moved.newSha) == ("refs/heads/main", before, after)
    assert payload.webhook.version == 3


def test_scopes_of_repositories_and_discussions(api, receiver):
    watch(api, receiver, ORG)
    api.create_repo("tiny/a")
    api.create_discussion("tiny/a", "A question")
    api.comment_discussion("tiny/a", 1, "An answer")
    api.update_repo_settings("tiny/a", gated="auto")
    api.move_repo("tiny/a", "tiny/b")
    api.delete_repo("tiny/b")
    told = [receiver.next() for _ in range(6)]
    assert [(each.event.scope, each.event.action) for each in told] == [
        ("repo", "create"),
        ("discussion", "create"),
        ("discussion.comment", "create"),
        ("repo.config", "update"),
        ("repo", "move"),
        ("repo", "delete"),
    ]
    assert told[2].comment.content == "An answer"
    assert told[4].movedTo.name == "tiny/b"


def test_only_what_is_watched_and_visible_is_told(api, as_user, receiver, repo):
    bob = as_user("bob")
    watch(bob, receiver, [{"type": "model", "name": repo}], domains=["repo"])
    api.create_discussion(repo, "Not a repo event")
    api.create_repo("tiny/other")
    api.update_repo_settings(repo, private=True)
    put(api, repo, "a.txt", b"hidden")
    api.update_repo_settings(repo, private=False)
    put(api, repo, "b.txt", b"shown")
    told = [receiver.next() for _ in range(2)]
    assert [each.event.scope for each in told] == ["repo.config", "repo.content"]
    assert not any(each.repo.private for each in told)
    assert receiver.calls.empty()


def test_a_failing_receiver_is_tried_again(api, repo, receiver):
    receiver.failures = 1
    watch(api, receiver, ORG)
    put(api, repo, "a.txt", b"a")
    assert receiver.next().event.scope == "repo.content"


def test_webhooks_are_kept_changed_and_deleted(api, as_user, receiver):
    made = watch(api, receiver, ORG, domains=["repo"])
    assert api.list_webhooks() == [made]
    assert api.get_webhook(made.id) == made
    assert not as_user("bob").list_webhooks()
    with pytest.raises(HfHubHTTPError):
        as_user("bob").get_webhook(made.id)
    changed = api.update_webhook(made.id, domains=["discussion"])
    assert (changed.domains, changed.url) == (["discussion"], made.url)
    assert api.disable_webhook(made.id).disabled
    assert not api.enable_webhook(made.id).disabled
    api.delete_webhook(made.id)
    assert not api.list_webhooks()
