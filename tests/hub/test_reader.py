"""Listings, pages, small files and headers through the real client."""

import json
from datetime import UTC, datetime

import pytest

from bot.errors import Broken, Gone, Rejected
from bot.hub.facts import languages_of
from bot.hub.reader import OVERLAP
from bot.localhub import Fault
from bot.reasons import Reason
from merge.checkpoint import parse_header

from .conftest import BASE, door, git_blob, push, safetensors

WEIGHTS = safetensors({"a": (2, 3), "b": (4,)})
LISTING = r"GET /api/models\?"


def test_fine_tunes_come_newest_first_and_pinned(server, hub):
    pushed = {name: push(server, name, {"w": "1"}) for name in ("tiny/one", "tiny/two")}
    push(server, "tiny/other", {"w": "1"}, base="tiny/else")
    push(server, "tiny/merged", {"w": "1"}, card="base_model_relation: merge\n")
    server.set_times("tiny/one", created="2026-01-01T00:00:00Z")
    server.set_times("tiny/two", created="2026-01-02T00:00:00Z")

    found = list(hub.finetunes(BASE))

    assert [(s.repo, s.sha) for s in found] == [
        ("tiny/two", pushed["tiny/two"]),
        ("tiny/one", pushed["tiny/one"]),
    ]
    assert found[0].author == "tiny"
    assert found[0].licence == "apache-2.0"
    assert found[0].created_at == datetime(2026, 1, 2, tzinfo=UTC)


def test_listing_goes_over_many_pages(server, hub):
    server.page_size = 2
    names = {f"tiny/m{i}" for i in range(7)}
    for name in names:
        push(server, name, {})

    assert {s.repo for s in hub.finetunes(BASE, sort="last_modified")} == names


def test_listing_stops_after_the_watermark(server, hub):
    server.page_size = 5
    for i in range(OVERLAP + 9):
        push(server, f"tiny/m{i:02}", {})
        server.set_times(f"tiny/m{i:02}", created=f"2026-01-01T00:00:{i:02}Z")
    server.forget_requests()

    new = list(hub.finetunes(BASE, stop=datetime(2026, 1, 1, 0, 0, 14, tzinfo=UTC)))

    assert [s.repo for s in new] == ["tiny/m16", "tiny/m15", "tiny/m14"]
    assert len(server.requests) == 3  # pages of five: 3 new lines and 9 older ones


def test_a_hub_that_ignores_the_order_is_read_to_its_end(server, hub):
    for day, name in enumerate(("tiny/a", "tiny/b", "tiny/c"), 1):
        push(server, name, {})
        server.set_times(name, created=f"2026-01-0{day}T00:00:00Z")
    server.inject(Fault(LISTING, "reorder"))

    new = list(hub.finetunes(BASE, stop=datetime(2026, 1, 3, tzinfo=UTC)))

    assert [s.repo for s in new] == ["tiny/c"]


def test_one_vanished_repository_does_not_end_the_listing(server, hub):
    push(server, "tiny/stays", {})
    assert [s.repo for s in hub.finetunes(BASE)] == ["tiny/stays"]
    with pytest.raises(Gone):
        hub.info("tiny/never-was")


def test_info_gives_files_with_hashes(server, hub):
    sha = push(server, "tiny/one", {"model.safetensors": WEIGHTS, "config.json": "{}"})

    facts = hub.info("tiny/one")

    assert facts.sha == sha
    assert facts.base_models == (BASE,)
    assert facts.licence == "apache-2.0"
    assert not facts.gated
    assert facts.file("config.json").blob_id == git_blob(b"{}")
    assert facts.file("model.safetensors").size == len(WEIGHTS)
    assert facts.file("nothing") is None


def test_languages_and_audience_are_read_from_the_card(server, hub):
    push(server, "tiny/one", {}, card="language: ['no', en]\ntags: [not-for-all-audiences]\n")
    push(server, "tiny/two", {}, card="language: code\ntags: [en]\n")

    one, two = hub.info("tiny/one"), hub.info("tiny/two")

    assert (one.languages, one.not_for_all_audiences) == (("en", "no"), True)
    assert (two.languages, two.not_for_all_audiences) == (("code",), False)


@pytest.mark.parametrize("stated", ["zh-Hant", "EN", "qq", "en] <b>", ["en"], 7, {"en": 1}, None])
def test_what_is_no_language_code_is_left_out(stated):
    assert languages_of({"language": ["de", stated]}) == ("de",)


def test_info_at_an_old_commit(server, hub):
    old = push(server, "tiny/one", {"config.json": "{}"})
    new = push(server, "tiny/one", {"more.json": "{}"}, card="tags: [x]\n")

    assert hub.head("tiny/one") == new
    assert hub.info("tiny/one", old).file("more.json") is None
    assert hub.info("tiny/one", new).file("more.json") is not None


def test_gated_private_and_disabled(server, hub, tmp_path):
    sha = push(server, "tiny/gated", {"config.json": "{}"})
    push(server, "tiny/off", {})
    server.set_gated("tiny/gated")
    server.set_disabled("tiny/off")

    assert hub.info("tiny/gated").gated
    with pytest.raises(Rejected) as refused:
        hub.read_json("tiny/gated", sha, "config.json")
    assert refused.value.code is Reason.GATED
    with pytest.raises(Gone):
        hub.info("tiny/off")

    door(server, tmp_path, "alice").set_private("tiny/gated", True, fence=lambda: None)
    with pytest.raises(Gone):
        hub.info("tiny/gated")
    assert hub.head("tiny/gated") is None


def test_small_files_are_capped_and_strict(server, hub):
    bad = {"nan.json": '{"a": NaN}', "twice.json": '{"a": 1, "a": 2}', "list.json": "[1]"}
    deep = {"deep.json": "[" * 100_000}
    sha = push(server, "tiny/one", {"good.json": '{"a": 1}', **bad, **deep})

    assert hub.read_json("tiny/one", sha, "good.json") == {"a": 1}
    for name in (*bad, *deep):
        with pytest.raises(Rejected) as refused:
            hub.read_json("tiny/one", sha, name, refuse_as=Reason.BAD_INDEX)
        assert refused.value.code is Reason.BAD_INDEX
    with pytest.raises(Rejected) as refused:
        hub.read_bytes("tiny/one", sha, "deep.json", 1000)
    assert refused.value.code is Reason.TOO_LARGE
    with pytest.raises(Gone):
        hub.read_bytes("tiny/one", sha, "absent.json", 1000)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../b", "a\\b", "C:x", "", "a//b"])
def test_unsafe_paths_and_branch_names_are_our_own_fault(hub, path):
    with pytest.raises(Broken):
        hub.read_bytes("tiny/one", "0" * 40, path, 10)
    with pytest.raises(Broken):
        hub.read_bytes("tiny/one", "main", "config.json", 10)


def test_a_header_is_read_without_the_tensors(server, hub):
    big = safetensors({f"t{i}": (1000,) for i in range(3000)})
    sha = push(server, "tiny/big", {"model.safetensors": big})
    server.forget_requests()

    raw = hub.read_header("tiny/big", sha, "model.safetensors", len(big))

    assert len(parse_header(raw, "model.safetensors", len(big))) == 3000
    assert len(raw) < len(big) // 10
    gets = [r for r in server.requests if r.method == "GET"]
    assert len(gets) <= 4  # two ranges, each perhaps redirected


def test_a_header_bomb_is_refused_from_its_length(server, hub):
    bomb = (2**60).to_bytes(8, "little") + b"{}"
    sha = push(server, "tiny/bomb", {"model.safetensors": bomb})

    with pytest.raises(Rejected) as refused:
        hub.read_header("tiny/bomb", sha, "model.safetensors", len(bomb))
    assert refused.value.code is Reason.HEADER_TOO_LARGE


def test_hostile_cards_hide_only_themselves(server, hub):
    push(server, "tiny/good", {})
    push(server, "tiny/evil", {}, card="ignore_metadata_errors: 1\nmodel-index: [[]]\n")

    assert "tiny/good" in {s.repo for s in hub.finetunes(BASE)}
    with pytest.raises(Rejected) as refused:
        hub.info("tiny/evil")
    assert refused.value.code is Reason.BAD_LISTING


def test_a_renamed_repository_is_followed(server, hub, tmp_path):
    push(server, "tiny/old", {"config.json": json.dumps({})})
    door(server, tmp_path, "alice").api.move_repo("tiny/old", "tiny/new")

    assert hub.info("tiny/old").repo == "tiny/new"
