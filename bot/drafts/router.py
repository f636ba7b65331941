"""A router's repository: router.json, the decoding code, card, picture, provenance.

The configuration comes from the calibrating child as JSON and is only read here; the code files
are written by a child, because what publishes them imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot import cards
from bot.children import child
from bot.drafts.software import software
from bot.drafts.soup import file_digests
from bot.errors import Rejected
from bot.licences import Use, combine
from bot.provenance import FILE_NAME, Kind, Provenance
from bot.reasons import Reason
from bot.worker.jobs import Picture, Repository
from bot.world import Base, World
from db.reader import RouterRow

PICTURE = "curve.png"
CONFIDENCE = 0.95  # of the intervals that calibration computes


@dataclass(frozen=True)
class Pair:
    """Both models as a card shows them."""

    base: cards.Source
    aligned: cards.Source
    chat: bool  # the aligned model has a chat template


def router_draft(world: World, base: Base, router_id: int, version: int, folder: Path) -> None:
    """Fill `folder` with everything that version `version` of the router's target will hold."""
    row = world.reader.router(router_id)
    config = json.loads(row.config)
    with child(world.executor, Repository(config=row.config, out=folder)) as running:
        for _ in running.lines():
            pass
    pair = _pair(world, row)
    _draw(world, config, folder / PICTURE)
    card = _card(world, base, row, pair, config, version)
    (folder / "README.md").write_text(cards.render_router(card), encoding="utf-8")
    (folder / FILE_NAME).write_text(_provenance(card, row, config, folder).to_json())


def _pair(world: World, row: RouterRow) -> Pair:
    base, aligned = _source(world, row.base), _source(world, row.aligned)
    texts = world.shelf.texts(aligned.repo, aligned.sha)
    tokenizer = json.loads((texts / "tokenizer_config.json").read_text())
    chat = "chat_template" in tokenizer or (texts / "chat_template.jinja").exists()
    return Pair(base, aligned, chat)


def _source(world: World, pin: str) -> cards.Source:
    repo, _, sha = pin.partition("@")
    facts = world.hub.info(repo, sha)
    return cards.Source(repo, sha, facts.licence or "unknown", facts.author)


def _card(
    world: World,
    base: Base,
    row: RouterRow,
    pair: Pair,
    config: Mapping[str, Any],
    version: int,
) -> cards.RouterCard:
    settings, figures = base.section.router, config["calibration"]
    assert settings is not None
    terms = combine([pair.base.licence, pair.aligned.licence])
    if terms.use is not Use.PUBLIC and not base.section.private:
        raise Rejected(Reason.LICENCE_CONFLICT, settings.target, "set private = true to keep it")
    return cards.RouterCard(
        repo=settings.target,
        version=f"v{version}",
        base=pair.base,
        aligned=pair.aligned,
        licence=cards.Licence(terms.licence or "other"),
        router=config["router"],
        threshold=config.get("threshold"),
        prompt_format=config["prompt_format"],
        chat=pair.chat,
        prompt=_example(Path(settings.prompts)),
        sampling=_sampling(figures),
        settings=tuple(_setting(one, config) for one in figures["held_out"]),
        diversity_name=figures["diversity"],
        quality_name=figures["quality"],
        calibration_prompts=figures["prompts"],
        report_prompts=figures["held_out_prompts"],
        confidence=CONFIDENCE,
        against_random=tuple(_comparison(one) for one in figures["against_random"]),
        beats_random=figures.get("beats_random"),
        config_digest=row.config_digest,
        contact=world.settings.contact or f"a discussion at {settings.target}",
        presets=tuple(
            cards.Preset(name, preset["share"], preset["threshold"])
            for name, preset in config.get("presets", {}).items()
        ),
        rule=figures["rule"],
        notes=tuple(figures.get("notes", ())),
        picture=PICTURE,
    )


def _example(prompts: Path) -> str:
    """The first calibration prompt: one that the pair has been measured on."""
    first = json.loads(prompts.read_text(encoding="utf-8").split("\n", 1)[0])
    return first if isinstance(first, str) else str(first["prompt"])


def _sampling(figures: Mapping[str, Any]) -> cards.Sampling:
    return cards.Sampling(
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        max_new_tokens=figures["max_new_tokens"],
        samples=figures["samples_per_prompt"],
    )


def _setting(one: Mapping[str, Any], config: Mapping[str, Any]) -> cards.Setting:
    threshold = one.get("threshold")
    named = {p["threshold"]: name for name, p in config.get("presets", {}).items()}
    routed = one["kind"] == "router"
    return cards.Setting(
        name=one["name"],
        control=not routed,
        base_share=one["token_share"],
        threshold=threshold,
        diversity=_estimate(one["diversity"]),
        quality=_estimate(one["quality"]),
        length=_estimate(one["length"]),
        forwards_per_token=one["forwards_per_token"],
        preset=named.get(threshold) if routed else None,
    )


def _comparison(one: Mapping[str, Any]) -> cards.Comparison:
    return cards.Comparison(
        control=one["control"],
        share=one["share"]["value"],
        control_share=one["control_share"]["value"],
        diversity=_estimate(one["diversity"]),
        quality=_estimate(one["quality"]),
    )


def _estimate(raw: Mapping[str, float]) -> cards.Estimate:
    return cards.Estimate(raw["value"], raw["low"], raw["high"])


def _draw(world: World, config: Mapping[str, Any], out: Path) -> None:
    with child(world.executor, Picture("router", config, out)) as running:
        for _ in running.lines():
            pass


def _provenance(
    card: cards.RouterCard, row: RouterRow, config: Mapping[str, Any], folder: Path
) -> Provenance:
    return Provenance(
        kind=Kind.ROUTER,
        repo=card.repo,
        version=card.version,
        digest=row.config_digest,
        recipe={"base": row.base, "aligned": row.aligned, "config": dict(config)},
        files=file_digests(folder),
        software=software(),
    )
