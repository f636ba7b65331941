"""The publisher itself, against a Hub that answers, refuses, loses and is written to by others.

Whatever happens, each version comes out as one commit, and what is called verified is what
`bot verify` calls the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bot.errors import Broken, Forbidden, Moved, Rejected, Unknown
from bot.localhub import Fault
from bot.provenance import parse
from bot.reasons import Reason
from bot.verify import State
from db import outcomes as o
from tests.hub.lesser import Accent, lesser

from .press import CARD, Press

BY_HAND = "---\nlicense: mit\n---\n# As a person would say it\n"


def refused(press: Press, publication: int) -> str:
    """It is stopped as not ours, the head stays where it was, and a person is told why."""
    head = press.head
    with pytest.raises(Rejected) as told:
        press.run(publication)
    assert told.value.code is Reason.NOT_OURS
    row = press.row(publication)
    assert (row.state, row.error) == ("blocked", str(told.value))
    assert press.head == head
    return told.value.detail


# -- undisturbed -----------------------------------------------------------------------------------


def test_a_version_is_one_public_commit_with_a_tag(press):
    publication = press.draft()
    kept = press.run(publication)
    assert [outcome.state for outcome in kept] == ["unknown", "committed", "verified"]
    press.assert_published_once(publication)
    assert not press.private
    assert press.text("README.md") == CARD.format(1)


def test_the_next_version_replaces_it_whole(press):
    first = press.draft(1, {"notes.txt": "old", "both.txt": "1"})
    press.run(first)
    second = press.draft(2, {"both.txt": "2"})
    press.run(second)
    press.assert_published_once(first, second)
    assert press.text("both.txt") == "2"
    assert "notes.txt" not in press.world.hub.remote_files(press.target, press.head)
    assert press.verified("v1") is State.SAME
    assert not press.private


def test_done_twice_it_is_done_once(press):
    publication = press.published()
    head = press.head
    press.server.forget_requests()
    press.run(publication)
    assert press.head == head
    assert {request.method for request in press.server.requests} <= {"GET", "HEAD"}


def test_with_the_database_lost_it_is_found_done_and_the_next_version_goes_on_from_there(presses):
    presses().published()
    press = presses(database="b")
    again = press.published()
    press.assert_published_once(again)
    second = press.published(2)
    press.assert_published_once(again, second)


# -- what people do at the target ------------------------------------------------------------------


def test_an_edited_card_is_kept_and_no_other_weights_get_under_it(press):
    press.published()
    press.edit({"README.md": BY_HAND})
    second = press.draft(2)
    detail = refused(press, second)
    assert "README.md was changed since version v1" in detail
    assert f"`bot retry publish:{second}`" in detail
    assert press.text("README.md") == BY_HAND
    assert press.verified() is State.DIFFERS

    press.edit({"README.md": CARD.format(1)})
    assert press.retry(second).state == "verified"
    assert press.text("README.md") == CARD.format(2)
    assert press.verified() is State.SAME


EDITS = {
    "modeling.py was added": {"modeling.py": "import os\n"},
    "model-2.safetensors was added": {"model-2.safetensors": "more weights"},
    "router.json was changed": {"router.json": "{} "},
    "router.json was removed": {"router.json": None},
    "model.safetensors was changed": {"model.safetensors": "other weights"},
    "README.md was removed": {"README.md": None},
    "README.md was removed, a.py was added, b.py was added and 1 more": {
        "README.md": None, "a.py": "", "b.py": "", "c.py": "",
    },
}  # fmt: skip


@pytest.mark.parametrize("what", EDITS)
def test_what_verification_calls_different_stops_the_next_version(press, what):
    press.published()
    press.edit(EDITS[what])
    assert press.verified() is State.DIFFERS
    assert f"{what} since" in refused(press, press.draft(2))


@pytest.mark.parametrize(
    "change",
    [
        {"software": {"stockpot": "2"}},
        {"digest": "f" * 64},
        {"version": "v7"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_rewritten_provenance_is_no_version_of_ours(press, change):
    press.published()
    told = parse(press.text("provenance.json").encode())
    press.edit({"provenance.json": replace(told, **change).to_json()})
    assert "provenance.json was changed" in refused(press, press.draft(2))


def test_a_provenance_that_hides_what_was_changed_is_no_version_of_ours(press):
    press.published()
    told = parse(press.text("provenance.json").encode())
    files = {path: digest for path, digest in told.files.items() if path != "router.json"}
    press.edit({"router.json": None, "provenance.json": replace(told, files=files).to_json()})
    assert "provenance.json was changed" in refused(press, press.draft(2))


@pytest.mark.parametrize(
    ("content", "word"), [("{", "not JSON"), (None, "model.safetensors stands there")]
)
def test_without_a_provenance_that_can_be_read_it_is_not_ours(press, content, word):
    press.published()
    press.edit({"provenance.json": content})
    assert word in refused(press, press.draft(2))


def test_what_the_hub_makes_itself_is_nobodys_change(press):
    first = press.published()
    press.edit({".gitattributes": "*.json filter=lfs\n"})
    assert press.verified() is State.SAME
    second = press.published(2)
    press.assert_published_once(first, second)


def test_somebody_elses_repository_is_left_as_it_is(press):
    press.person.create_repo(press.target)
    press.edit({"README.md": BY_HAND, "model.safetensors": "mine"})
    press.server.forget_requests()
    with pytest.raises(Rejected, match=r"model\.safetensors stands there"):
        press.run(press.draft())
    assert {request.method for request in press.server.requests} <= {"GET", "HEAD"}
    assert not press.private


def test_a_path_cannot_drive_the_terminal_that_prints_the_refusal(press):
    press.published()
    press.edit({"\N{RIGHT-TO-LEFT OVERRIDE}.py": ""})
    assert "\\u202e.py was added" in refused(press, press.draft(2))


def test_an_edit_on_top_of_a_commit_that_we_know_waits_for_the_next_version(press):
    publication = press.draft()
    press.run(publication, stop_after=2)  # committed, and killed
    ours = press.head
    edited = press.edit({"README.md": BY_HAND})
    press.run(publication)
    assert press.row(publication).state == "verified"
    assert press.tags == {"v1": ours}
    assert press.verified("v1") is State.SAME
    assert press.head == edited


def test_an_edit_on_top_of_a_commit_that_we_do_not_know_is_never_called_ours(press):
    publication = press.draft()
    press.server.inject(Fault("POST .*/commit/", "lose"))
    with pytest.raises(Unknown):
        press.run(publication)
    press.edit({"README.md": BY_HAND})
    assert "README.md was changed" in refused(press, publication)
    assert press.tags == {}
    press.edit({"README.md": CARD.format(1)})
    assert press.retry(publication).state == "verified"
    assert len(press.versions) == 1


# -- the head moves --------------------------------------------------------------------------------


def just_before_the_commit(press: Press, act: Callable[[], object]) -> None:
    """The last moment at which somebody else can be faster: the fence before that request."""

    def before_write() -> None:
        seen = [request.path for request in press.server.requests]
        if any("/preupload/" in path for path in seen[-3:]) and press.row(1).state == "unknown":
            press.before_write = lambda: None
            act()

    press.server.forget_requests()
    press.before_write = before_write


def test_a_commit_in_between_is_looked_at_before_ours_follows(press):
    publication = press.draft()
    moved = []
    just_before_the_commit(press, lambda: moved.append(press.edit({".gitattributes": "# x\n"})))
    press.run(publication)
    press.assert_published_once(publication)
    assert press.row(publication).parent == moved[0]


def test_a_foreign_file_in_between_stops_it(press):
    publication = press.draft()
    just_before_the_commit(press, lambda: press.edit({"mine.txt": "x"}))
    with pytest.raises(Rejected, match=r"mine\.txt stands there"):
        press.run(publication)
    assert press.versions == []
    assert press.row(publication).state == "blocked"


def test_a_head_that_never_rests_is_left_for_later(press):
    publication = press.draft()
    press.server.inject(Fault("POST .*/commit/", "status", 5, status=412))
    with pytest.raises(Moved):
        press.run(publication)
    assert press.row(publication).state == "unknown"
    press.settle(publication)
    press.assert_published_once(publication)


def test_a_head_that_shows_late_is_not_sent_to_twice(press):
    publication = press.draft()
    press.run(publication, stop_after=2)
    press.server.inject(Fault(r"GET /api/models/us/soup\?expand=sha", "stale", 2))
    press.settle(publication)
    press.assert_published_once(publication)


# -- what was sent is not what is there ------------------------------------------------------------


@pytest.mark.parametrize("path", ["README.md", "router.json"])
def test_a_wrong_file_at_the_hub_stays_private_without_a_tag(press, path):
    publication = press.draft()
    press.server.inject(Fault(f"GET .*/resolve/.*/{path}", "corrupt"))
    with pytest.raises(Broken, match=f"{path} was changed"):
        press.run(publication)
    row = press.row(publication)
    assert row.state == "blocked"
    assert row.error is not None
    assert press.private
    assert press.tags == {}
    assert press.retry(publication).state == "verified"
    press.assert_published_once(publication)


def test_a_tag_that_points_elsewhere_is_not_moved(press):
    publication = press.draft()
    press.run(publication, stop_after=2)
    other = press.edit({".gitattributes": "# x\n"})
    press.person.create_tag(press.target, tag="v1", revision=other)
    with pytest.raises(Broken, match="tag v1"):
        press.run(publication)
    assert press.tags == {"v1": other}
    assert press.private


@pytest.mark.parametrize("spoil", [lambda file: file.unlink(), lambda file: file.write_text("x")])
def test_only_what_was_drafted_is_sent(press, spoil):
    publication = press.draft()
    spoil(Path(press.row(publication).folder) / "model.safetensors")
    with pytest.raises(Broken, match=r"model\.safetensors"):
        press.run(publication)
    assert press.row(publication).state == "blocked"
    assert press.versions == []


def test_a_draft_that_was_sent_is_not_needed_again(press):
    publication = press.draft()
    press.run(publication, stop_after=2)
    shutil.rmtree(press.row(publication).folder)
    press.run(publication)
    press.assert_published_once(publication)


# -- what we may, and who may see it ---------------------------------------------------------------


def test_a_token_that_may_not_write_blocks_it(press):
    press.published()
    press.through(press.door(role="read"))
    publication = press.draft(2)
    with pytest.raises(Forbidden):
        press.run(publication)
    assert press.row(publication).state == "blocked"
    assert len(press.versions) == 1
    press.through(press.door())
    assert press.retry(publication).state == "verified"


def seen_by_all(press: Press, publication: int) -> dict[str, bool]:
    """State of the publication -> whether everybody sees the target then."""
    return {
        outcome.state: not press.private
        for outcome in press.steps(publication)
        if isinstance(outcome, o.Moved)
    }


def test_an_empty_public_target_is_hidden_until_its_first_version_is_verified(press):
    press.person.create_repo(press.target, private=False)
    press.edit({"README.md": "---\nlicense: mit\n---\n"})
    seen = seen_by_all(press, press.draft())
    assert seen == {"unknown": False, "committed": False, "verified": True}


def test_a_later_version_is_seen_at_its_commit(press):
    press.published()
    seen = seen_by_all(press, press.draft(2))
    assert seen == {"unknown": True, "committed": True, "verified": True}


def test_private_is_never_seen(press):
    press.person.create_repo(press.target, private=False)
    press.keep_private()
    assert set(seen_by_all(press, press.draft(1)).values()) == {False}
    assert set(seen_by_all(press, press.draft(2)).values()) == {False}


def test_a_public_target_that_is_to_be_private_is_hidden_before_anything_is_sent(press):
    first = press.published()
    press.keep_private()
    second = press.draft(2)
    assert set(seen_by_all(press, second).values()) == {False}
    press.assert_published_once(first, second)


def test_what_was_shown_before_it_is_verified_is_hidden_again(press):
    publication = press.draft()
    press.keep_private()
    press.run(publication, stop_after=2)
    press.person.update_repo_settings(press.target, private=False)
    press.run(publication)
    assert press.row(publication).state == "verified"
    assert press.private


@pytest.mark.parametrize("sent", [0, 1, 2], ids=["drafted", "unknown", "committed"])
def test_what_may_not_be_public_is_not_shown_when_the_settings_change(press, sent):
    press.keep_private()
    publication = press.draft(public=False)
    press.run(publication, stop_after=sent)
    press.keep_private(False)
    with pytest.raises(Rejected, match="made of what may not be public; set private = true again"):
        press.run(publication)
    assert press.row(publication).state == "blocked"
    assert sent == 0 or press.private
    press.keep_private()
    assert press.retry(publication).state == "verified"
    assert press.private
    press.assert_published_once(publication)


@pytest.mark.parametrize("private", [True, False], ids=["settings", "first version"])
def test_nothing_is_sent_to_a_target_that_does_not_become_private(press, private):
    press.person.create_repo(press.target, private=False)
    press.keep_private(private)
    publication, head = press.draft(), press.head
    deaf = Accent(request=lambda path, body: {} if path.endswith("/settings") else body)
    with lesser(press.server.url, deaf) as url:
        press.through(press.door(url))
        with pytest.raises(Rejected, match="it does not become private"):
            press.run(publication)
    assert press.row(publication).state == "blocked"
    assert press.head == head
    assert not [line for line in deaf.seen if "/preupload/" in line or "/lfs/" in line]


def test_what_somebody_hid_is_not_shown_by_a_later_version(press):
    first = press.published()
    press.person.update_repo_settings(press.target, private=True)
    second = press.draft(2)
    (told,) = [outcome for outcome in press.run(second) if isinstance(outcome, o.Noted)]
    assert told.kind == "kept-private"
    assert press.private
    press.assert_published_once(first, second)
