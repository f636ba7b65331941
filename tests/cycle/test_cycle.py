"""The main job once, then again: every verb on real small models through the real client."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard
from typer.testing import CliRunner

from bot.cli.app import app
from bot.cli.exits import Exit
from bot.daemon import open_hub
from bot.demo.refused import REFUSED
from bot.demo.strangers import ORG
from bot.executors import LocalExecutor
from bot.verify import State, verify
from db import report
from tests.browser.chromium import PROGRAM, open_page
from tests.browser.test_pages import BLUE
from tests.cycle.conftest import CATEGORIES, SOUP, Town, open_town


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, small_suite: Path) -> Iterator[Town]:
    """Day one, done."""
    folder = tmp_path_factory.mktemp("town")
    with open_town(folder, small_suite, "arith", "string", "struct") as town:
        town.strangers.push_refused()
        town.run_once()
        yield town


@pytest.fixture(scope="module")
def api(town: Town) -> HfApi:
    return HfApi(endpoint=town.hub.url, token=False)


def rows(town: Town, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(town.folder / "stockpot.db") as connection:
        return connection.execute(query).fetchall()


def test_the_category_table_is_plain_sql(town: Town) -> None:
    found = rows(town, "SELECT model, category, n FROM category_table WHERE split = 'select'")
    scored = {model for model, _, _ in found}
    assert {f"{ORG}/{name}" for name in ("base", "arith", "string", "struct")} <= scored
    assert {category for _, category, _ in found} == set(CATEGORIES)
    assert len(found) == len(scored) * len(CATEGORIES)


def test_every_bad_repository_is_refused_for_its_own_reason(town: Town) -> None:
    found = dict(rows(town, "SELECT repo, reason FROM candidates WHERE state = 'rejected'"))
    assert found == {f"{ORG}/{name}": code for name, (code, _) in REFUSED.items()}


def test_a_pickle_is_never_downloaded(town: Town) -> None:
    assert not [r for r in town.hub.requests if r.path.endswith("pytorch_model.bin")]


def test_no_weights_are_downloaded_for_a_rejection_that_needs_none(town: Town) -> None:
    kept = {folder.name.split("@")[0] for folder in (town.folder / "data" / "models").iterdir()}
    bad = {f"{ORG}--{name}" for name in REFUSED} - {f"{ORG}--poisoned"}
    assert not kept & bad


def test_the_soup_is_one_public_commit_with_a_tag(town: Town, api: HfApi) -> None:
    info = api.model_info(SOUP)
    assert not info.private
    commits = api.list_repo_commits(SOUP)
    assert [c.title for c in commits][:1] == [f"Version 1: {recipe_digest(town)[:12]}"]
    tags = {tag.name: tag.target_commit for tag in api.list_repo_refs(SOUP).tags}
    assert tags == {"v1": info.sha}


def recipe_digest(town: Town) -> str:
    ((digest,),) = rows(town, "SELECT digest FROM publications WHERE version = 1")
    return str(digest)


def test_the_card_names_what_is_in_it(town: Town, api: HfApi) -> None:
    path = api.hf_hub_download(SOUP, "README.md", revision="v1", cache_dir=town.folder / "cache")
    card = ModelCard.load(path)
    assert card.data.base_model_relation == "merge"
    assert card.data.language == ["en"], "as the cards of its ingredients say"
    members = rows(
        town,
        "SELECT c.repo, c.sha FROM soup_members m JOIN candidates c ON c.id = m.candidate_id",
    )
    assert len(members) >= 2
    for repo, sha in members:
        assert repo in card.data.base_model
        assert str(sha) in card.content


@pytest.mark.browser
@pytest.mark.skipif(PROGRAM is None, reason="no Chromium: apt-get install chromium")
def test_its_page_opens_in_a_browser(town: Town, tmp_path: Path) -> None:
    opened = open_page(f"{town.hub.url}/{SOUP}", tmp_path)
    for (repo,) in rows(
        town, "SELECT c.repo FROM soup_members JOIN candidates c ON c.id = candidate_id"
    ):
        assert f"{town.hub.url}/{repo}" in opened.links()
    assert f"{town.hub.url}/{SOUP}/tree/v1" in opened.links()
    assert opened.painted(BLUE) > 200, "the picture with the soup's scores"


def test_the_soup_can_be_made_again_byte_for_byte(town: Town) -> None:
    settings = town.settings()
    with LocalExecutor(settings.data) as executor:
        found = verify(open_hub(settings), executor, settings.data, SOUP)
    assert found.state is State.SAME
    assert {"recipe", "model.safetensors", "config.json", "tokenizer.json"} <= {
        check.what for check in found.checks
    }


def test_explain_tells_why(town: Town) -> None:
    store = town.folder / "stockpot.db"
    assert store.is_file()
    with town.bot() as loop:
        engine = loop.store.engine
        kinds = [event.kind for event in report.events_of(engine, f"{ORG}/pickled")]
        assert kinds == ["sighted", "rejected"]
        assert "publication-verified" in [e.kind for e in report.events_of(engine, SOUP)]


@pytest.mark.parametrize(
    ("repo", "kinds"), [(SOUP, {"selected", "searched", "look", "judged", "publication-verified"})]
)
def test_explain_tells_how_what_is_published_came_about(
    town: Town, repo: str, kinds: set[str]
) -> None:
    result = CliRunner().invoke(app, ["explain", repo, "--json", "--config", str(town.config)])
    assert kinds <= {event["kind"] for event in json.loads(result.stdout)}


def test_anybody_can_verify_without_settings(
    town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["verify", SOUP, "--endpoint", town.hub.url])
    assert result.exit_code == Exit.OK, result.output
    assert list(tmp_path.iterdir()) == []


def test_running_again_writes_nothing(town: Town) -> None:
    before = rows(town, "SELECT count(*) FROM trials")
    town.hub.forget_requests()
    town.run_once()
    assert rows(town, "SELECT count(*) FROM trials") == before
    assert {request.method for request in town.hub.requests} <= {"GET", "HEAD"}


def test_a_new_expert_brings_version_two(town: Town, api: HfApi) -> None:
    town.strangers.push("call")
    town.run_once()
    info = api.model_info(SOUP)
    tags = {tag.name: tag.target_commit for tag in api.list_repo_refs(SOUP).tags}
    assert set(tags) == {"v1", "v2"}
    assert tags["v2"] == info.sha != tags["v1"]
    provenance = api.hf_hub_download(
        SOUP, "provenance.json", revision="v2", cache_dir=town.folder / "cache"
    )
    recipe = json.loads(Path(provenance).read_text())["recipe"]
    assert f"{ORG}/call" in {member["repo"] for member in recipe["members"]}
    looks = rows(town, "SELECT k FROM looks ORDER BY k")
    assert looks == [(1,), (2,)]


@pytest.mark.parametrize(
    "command",
    [["status"], ["scores"], ["soups"], ["drafts"], ["explain", SOUP], ["verify", SOUP]],
    ids=lambda command: command[0],
)
def test_reading_commands_speak_json(town: Town, command: list[str]) -> None:
    arguments = [*command, "--json", "--config", str(town.config)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == Exit.OK, result.output
    assert json.loads(result.stdout) is not None


def test_a_member_that_is_gone_makes_a_soup_unverifiable(
    town: Town, api: HfApi, tmp_path: Path
) -> None:
    provenance = api.hf_hub_download(SOUP, "provenance.json", cache_dir=tmp_path / "cache")
    gone = json.loads(Path(provenance).read_text())["recipe"]["members"][0]["repo"]
    town.strangers.api.delete_repo(gone)
    with LocalExecutor(tmp_path) as executor:
        found = verify(open_hub(town.settings()), executor, tmp_path, SOUP)
    assert found.state is State.UNVERIFIABLE
    (weights,) = [check for check in found.checks if check.what == "weights"]
    assert gone in weights.how


def test_what_was_changed_at_the_hub_is_found(town: Town, tmp_path: Path) -> None:
    ours = HfApi(endpoint=town.hub.url, token=town.hub.token("stockpot"))
    for path, content in {"README.md": b"---\nlicense: mit\n---\n", "modeling.py": b""}.items():
        ours.upload_file(repo_id=SOUP, path_in_repo=path, path_or_fileobj=content)
    with LocalExecutor(tmp_path) as executor:
        found = verify(open_hub(town.settings()), executor, tmp_path, SOUP)
    assert found.state is State.DIFFERS
    differ = {check.what for check in found.checks if check.state is State.DIFFERS}
    assert differ == {"README.md", "modeling.py"}
