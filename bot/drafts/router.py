"""A router's repository: router.json, the decoding code, card, picture, provenance.

The configuration comes from the calibrating child and is validated when it is read here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from bot import cards
from bot.cards import router
from bot.children import child
from bot.drafts.software import software
from bot.drafts.soup import file_digests
from bot.drafts.terms import terms_of
from bot.errors import Broken, Misconfigured
from bot.hub import RepoFacts
from bot.licences import Terms
from bot.provenance import FILE_NAME, Kind, Provenance
from bot.worker.jobs import Picture
from bot.worker.prompts import Unusable, read_prompts
from bot.world import Base, World
from db.rows import RouterRow
from route.config import Preset, RouterConfig
from route.figures import Calibration, Difference, Estimate, Setting
from route.hubrepo import repository_files

PICTURE = "curve.png"
CONFIDENCE = 0.95  # of the intervals that calibration computes


@dataclass(frozen=True)
class Pair:
    """Both models as a card shows them."""

    base: cards.Source
    aligned: cards.Source
    chat: bool  # the aligned model has a chat template
    languages: tuple[str, ...]  # of either
    not_for_all_audiences: bool


def router_draft(world: World, base: Base, router_id: int, version: int, folder: Path) -> Terms:
    """Fill `folder` with everything that version `version` of the router's target will hold; its
    terms."""
    row = world.reader.router(router_id)
    config = RouterConfig.from_json(row.config)
    for path, content in repository_files(config).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    _draw(world, row, folder / PICTURE)
    card, terms = _card(world, base, row, config, version)
    (folder / "README.md").write_text(cards.render_router(card), encoding="utf-8")
    (folder / FILE_NAME).write_text(_provenance(card, row, folder).to_json())
    return terms


def _pair(world: World, row: RouterRow) -> Pair:
    base, aligned = _facts(world, row.base), _facts(world, row.aligned)
    repo, _, sha = row.aligned.partition("@")
    texts = world.shelf.texts(repo, sha)
    tokenizer = json.loads((texts / "tokenizer_config.json").read_text())
    chat = "chat_template" in tokenizer or (texts / "chat_template.jinja").exists()
    return Pair(
        base=_source(row.base, base),
        aligned=_source(row.aligned, aligned),
        chat=chat,
        languages=tuple(sorted({*base.languages, *aligned.languages})),
        not_for_all_audiences=base.not_for_all_audiences or aligned.not_for_all_audiences,
    )


def _facts(world: World, pin: str) -> RepoFacts:
    repo, _, sha = pin.partition("@")
    return world.hub.info(repo, sha)


def _source(pin: str, facts: RepoFacts) -> cards.Source:
    repo, _, sha = pin.partition("@")
    return cards.Source(repo, sha, facts.licence or "unknown", facts.author)


def _card(
    world: World, base: Base, row: RouterRow, config: RouterConfig, version: int
) -> tuple[cards.RouterCard, Terms]:
    settings, figures, pair = base.section.router, config.calibration, _pair(world, row)
    if settings is None or figures is None:
        raise Broken("a router without settings or calibration is never drafted")
    licences = [pair.base.licence, pair.aligned.licence]
    terms = terms_of(licences, settings.target, private=base.section.private)
    card = cards.RouterCard(
        repo=settings.target,
        version=f"v{version}",
        base=pair.base,
        aligned=pair.aligned,
        licence=cards.Licence(terms.licence or "other"),
        router=config.router,
        threshold=config.threshold,
        prompt_format=config.prompt_format,
        chat=pair.chat,
        prompt=_example(Path(settings.prompts)),
        sampling=_sampling(figures),
        settings=tuple(_setting(one, config) for one in figures.held_out),
        diversity_name=figures.diversity,
        quality_name=figures.quality,
        calibration_prompts=figures.prompts,
        report_prompts=figures.held_out_prompts,
        confidence=CONFIDENCE,
        against_random=tuple(_comparison(one) for one in figures.against_random),
        beats_random=figures.beats_random,
        config_digest=row.config_digest,
        contact=world.settings.contact or "",
        indicators=tuple(
            router.Indicator(
                one.method, one.settings, _estimate(one.coverage), _estimate(one.dominance)
            )
            for one in figures.indicators
        ),
        gains=tuple(router.Gain(one.control, _estimate(one.coverage)) for one in figures.gains),
        method=_method(figures),
        presets=tuple(cards.Preset(n, p.share, p.threshold) for n, p in _presets(config)),
        rule=figures.rule,
        notes=figures.notes,
        picture=PICTURE,
        languages=pair.languages,
        not_for_all_audiences=pair.not_for_all_audiences,
    )
    return card, terms


def _example(prompts: Path) -> str:
    """The first calibration prompt: one that the pair has been measured on."""
    try:
        return read_prompts(prompts)["calibrate"][0]
    except Unusable as error:
        raise Misconfigured(f"`{error.setting}`: {error}") from error


def _sampling(figures: Calibration) -> cards.Sampling:
    return cards.Sampling(
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        max_new_tokens=figures.max_new_tokens,
        samples=figures.samples_per_prompt,
    )


def _presets(config: RouterConfig) -> list[tuple[str, Preset]]:
    """From the smallest share to the largest."""
    return sorted(config.presets.items(), key=lambda item: (item[1].share, item[0]))


def _method(figures: Calibration) -> router.Method | None:
    if figures.words is None or figures.embeddings is None or figures.reach is None:
        return None
    return router.Method(
        words=figures.words,
        embeddings=figures.embeddings,
        reach=figures.reach,
        block_forwards=figures.forwards_in_blocks,
        formats=tuple(
            router.FormatTrial(one.prompt_format, _estimate(one.diversity), _estimate(one.quality))
            for one in figures.formats
        ),
        format_rule=figures.format_rule or "",
    )


def _setting(one: Setting, config: RouterConfig) -> cards.Setting:
    presets = [name for name, p in _presets(config) if p.threshold == one.threshold]
    routed = one.kind == "router"
    return cards.Setting(
        name=one.name,
        control=not routed,
        base_share=one.token_share,
        threshold=one.threshold,
        diversity=_estimate(one.diversity),
        quality=_estimate(one.quality),
        length=_estimate(one.length),
        forwards_per_token=one.forwards_per_token,
        preset=(" and ".join(presets) or None) if routed else None,
    )


def _comparison(one: Difference) -> cards.Comparison:
    return cards.Comparison(
        control=one.control,
        share=one.share.value,
        control_share=one.control_share.value,
        diversity=_estimate(one.diversity),
        quality=_estimate(one.quality),
    )


def _estimate(one: Estimate) -> cards.Estimate:
    return cards.Estimate(one.value, one.low, one.high)


def _draw(world: World, row: RouterRow, out: Path) -> None:
    with child(world.executor, Picture("router", json.loads(row.config), out)) as running:
        for _ in running.lines():
            pass


def _provenance(card: cards.RouterCard, row: RouterRow, folder: Path) -> Provenance:
    return Provenance(
        kind=Kind.ROUTER,
        repo=card.repo,
        version=card.version,
        digest=row.config_digest,
        recipe={"base": row.base, "aligned": row.aligned, "config": json.loads(row.config)},
        files=file_digests(folder),
        software=software(),
    )
