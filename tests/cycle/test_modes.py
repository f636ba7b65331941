"""Who decides about publishing: nobody has to, a person has to, nobody may."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from bot.daemon import run_once
from bot.demo.strangers import ORG
from db import report
from tests.cycle.conftest import SOUP, Town, open_town


@pytest.fixture
def asking(tmp_path: Path, small_suite: Path) -> Iterator[Town]:
    extra = 'publish = "ask"'
    with open_town(tmp_path, small_suite, "arith", "string", extra=extra) as town:
        yield town


@pytest.fixture
def scoring(tmp_path: Path, small_suite: Path) -> Iterator[Town]:
    extra = 'publish = "off"'
    with open_town(tmp_path, small_suite, "arith", "string", extra=extra) as town:
        yield town


def exists(town: Town, repo: str) -> bool:
    return HfApi(endpoint=town.hub.url, token=town.hub.token("stockpot")).repo_exists(repo)


def test_a_draft_waits_for_a_person(asking: Town) -> None:
    with asking.bot() as loop:
        run_once(loop)
        assert not exists(asking, SOUP)
        (draft,) = report.publication_list(loop.store.engine, "draft")
        assert (Path(draft.folder) / "README.md").is_file()
        assert loop.store.approve(draft.id, True)
        loop.run_until_quiet()
    assert exists(asking, SOUP)


def test_the_score_only_bot_keeps_the_table_and_nothing_else(scoring: Town) -> None:
    with scoring.bot() as loop:
        run_once(loop)
        scored = {score.model for score in report.category_scores(loop.store.engine)}
        assert scored == {f"{ORG}/{name}" for name in ("base", "arith", "string")}
        assert report.soup_list(loop.store.engine) == []
    assert {
        request.method for request in scoring.hub.requests if "stockpot" in request.path
    } == set()
