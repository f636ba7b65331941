"""The listings of a base: what is new, and what people make of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from huggingface_hub import hf_hub_download

from bot.watch import watch
from bot.world import utc_now
from db import outcomes as o
from db.report import events_of


def sighted(kept):
    return {out.repo: out.downloads for out in kept if isinstance(out, o.Sighted)}


def later(street, **time):
    world = street.loop.world
    street.loop.world = replace(world, now=lambda: utc_now() + timedelta(**time))


def test_a_line_that_is_known_is_read_once(street):
    sha = street.strangers.push("arith")
    assert sighted(street.run(watch)) == {"tiny/arith": 0}
    assert sighted(street.run(watch)) == {}
    assert street.candidate("arith").sha == sha


def test_likes_and_downloads_are_those_of_the_last_sweep(street, tmp_path):
    """`order = "downloads"` goes by them; nothing else is news."""
    sha = street.strangers.push("arith")
    street.run(watch)
    before = events_of(street.loop.store.engine, "tiny/arith")
    for reader in ("one", "other"):
        hf_hub_download(
            "tiny/arith",
            "config.json",
            revision=sha,
            endpoint=street.hub.url,
            cache_dir=tmp_path / reader,
            token=False,
        )
    later(street, days=2)
    again = sighted(street.run(watch))
    assert again["tiny/arith"] > 0
    base, now = street.loop.world.bases["tiny/base"], street.loop.world.now()
    facts = street.loop.world.reader.facts(base.id, base.benchmark.id, 1, now)
    assert {c.repo: c.downloads for c in facts.open if c.role == "finetune"} == again
    assert events_of(street.loop.store.engine, "tiny/arith") == before
    assert sighted(street.run(watch)) == {}
