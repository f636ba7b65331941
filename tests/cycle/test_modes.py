"""Who decides about publishing: nobody may, then a person has to. (That nobody has to: test_cycle.)

One bot whose operator trusts it step by step; what it measured is kept from one to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from bot.daemon import run_once
from bot.demo.strangers import ORG
from bot.localhub.faults import Fault
from bot.loop import Loop
from db import report

from .conftest import SOUP, Town, open_town
from .test_crashes import assert_published_once


@pytest.fixture
def town(tmp_path: Path, small_suite: Path) -> Iterator[Town]:
    extra = 'publish = "off"'
    with open_town(tmp_path, small_suite, "arith", "string", extra=extra) as town:
        yield town


def test_nothing_then_a_draft_then_one_publication(town: Town) -> None:
    with town.bot() as loop:
        run_once(loop)
        the_table_is_kept_and_nothing_else(town, loop)
    town.configure('publish = "ask"')
    with town.bot() as loop:
        run_once(loop)
        assert loop.store.approve(the_draft_that_waits(town, loop), True)
        a_lost_answer_is_looked_up_and_not_sent_again(town, loop)


def the_table_is_kept_and_nothing_else(town: Town, loop: Loop) -> None:
    scored = {score.model for score in report.category_scores(loop.store.engine)}
    assert scored == {f"{ORG}/{name}" for name in ("base", "arith", "string")}
    assert report.soup_list(loop.store.engine) == []
    assert not [request for request in town.hub.requests if "stockpot" in request.path]


def the_draft_that_waits(town: Town, loop: Loop) -> int:
    assert not exists(town, SOUP)
    (draft,) = report.publication_list(loop.store.engine, "draft")
    assert (Path(draft.folder) / "README.md").is_file()
    return draft.id


def a_lost_answer_is_looked_up_and_not_sent_again(town: Town, loop: Loop) -> None:
    town.hub.inject(Fault(match=f"POST /api/models/{SOUP}/commit", kind="lose", times=1))
    loop.run_until_quiet()
    (trouble,) = report.status(loop.store.engine, loop.world.now()).troubles
    assert trouble.error.startswith("Unknown"), trouble
    loop.store.retry(None)  # not to wait for the back-off
    loop.run_until_quiet()
    assert exists(town, SOUP)
    assert_published_once(town)


def exists(town: Town, repo: str) -> bool:
    return HfApi(endpoint=town.hub.url, token=town.hub.token("stockpot")).repo_exists(repo)
