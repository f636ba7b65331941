"""A router whose aligned side is the soup that the bot publishes itself, as a stranger meets it."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download

from bot.daemon import run_once
from bot.rounds import read_progress
from bot.world import utc_now
from db import report
from tests.browser.chromium import PROGRAM, open_page
from tests.browser.test_pages import BLUE
from tests.cards.reading import body, read

from .conftest import SOUP, open_town

pytestmark = pytest.mark.filterwarnings("default")

ROUTER = "stockpot/tiny-router"
SECTION = f"""
[bases.router]
aligned = "soup"
target = "{ROUTER}"
prompts = "prompts.jsonl"
router = "P"
shares = [0.1, 0.3]
prompt_formats = ["same", "plain"]
temperatures = [1.0]
min_p_temperatures = [2.0]
samples = 2
max_new_tokens = 6
"""


@pytest.fixture(scope="module")
def town(tmp_path_factory, small_suite):
    folder = tmp_path_factory.mktemp("router")
    with open_town(folder, small_suite, "arith", "string") as town:
        prompts = [
            {"prompt": f"{a}+{a}=", "split": "calibrate" if a < 6 else "held-out"}
            for a in range(2, 9)
        ]
        prompts.insert(0, prompts.pop())  # the page shows the first one that was calibrated on
        (folder / "prompts.jsonl").write_text("\n" + "\n".join(map(json.dumps, prompts)))
        town.config.write_text(town.config.read_text() + SECTION)
        town.run_once()
        yield town


def test_the_router_names_the_soup_that_was_published(town):
    api = HfApi(endpoint=town.hub.url)
    config = json.loads(fetched(town, "router.json").read_text())
    assert config["aligned"]["repo"] == SOUP
    assert config["aligned"]["sha"] == api.repo_info(SOUP, revision="v1").sha
    assert config["calibration"]["gains"][0]["control"] == "rand"
    assert api.model_info(ROUTER).card_data.language == ["en"], "as both cards say"
    picture = fetched(town, "curve.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


@pytest.mark.browser
@pytest.mark.skipif(PROGRAM is None, reason="no Chromium: apt-get install chromium")
def test_its_page_opens_in_a_browser(town, tmp_path):
    opened = open_page(f"{town.hub.url}/{ROUTER}", tmp_path)
    assert f"{town.hub.url}/{SOUP}" in opened.links()
    assert f"{town.hub.url}/{ROUTER}/tree/v1" in opened.links()
    assert opened.painted(BLUE) > 200, "the curve of what was measured"


def test_the_printed_snippet_runs_in_an_empty_home(town, tmp_path):
    card = fetched(town, "README.md").read_text()
    code = dict(read(body(card)).code)["python"]
    run = subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "HF_HOME": str(tmp_path / "home"),
            "HF_ENDPOINT": town.hub.url,
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("2+2=") == 2, run.stdout  # two samples of the first prompt


def test_what_was_measured_is_read_again(town):
    """The pair is forgotten, as after a kill just before the end: no round is written anew.

    What no configured pair can use goes then: rounds of other pins, and what an older version left.
    """
    (pins,) = rounds(town).iterdir()
    kept = {file: file.stat().st_mtime_ns for file in pins.iterdir()}
    assert len(kept) == 15
    past, old, foreign = (rounds(town) / name for name in ("a" * 64, "b" * 64 + ".json", "notes"))
    past.mkdir()
    (past / ("c" * 64 + ".json")).touch()
    old.touch()
    foreign.write_text("mine")
    with sqlite3.connect(town.folder / "stockpot.db") as database:
        database.execute("UPDATE routers SET pair_digest = 'forgotten'")
    town.run_once()
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    with sqlite3.connect(town.folder / "stockpot.db") as database:
        routers = database.execute("SELECT config_digest, config FROM routers").fetchall()
    assert len(routers) == 2
    assert len(set(routers)) == 1
    assert set(rounds(town).iterdir()) == {pins, foreign}


def test_a_share_out_of_reach_is_for_the_operator_to_mend(town):
    settings = town.config.read_text()
    town.config.write_text(settings.replace('"P"', '"P-PUNC"').replace("[0.1, 0.3]", "[0.1, 0.99]"))
    try:
        with town.bot() as loop:
            run_once(loop)
            (trouble,) = report.status(loop.store.engine, utc_now()).troubles
    finally:
        town.config.write_text(settings)
    assert trouble.state == "parked"
    assert re.search(r"^Misconfigured: `shares`: .* share in \[0, 0\.\d+\]$", trouble.error)
    told = read_progress(rounds(town), trouble.step.removeprefix("calibrate:"))
    assert 1 <= told.done < told.total


def rounds(town):
    return town.folder / "data" / "rounds"


def fetched(town, name):
    folder = town.folder / "fetched"
    return Path(hf_hub_download(ROUTER, name, endpoint=town.hub.url, cache_dir=folder))
