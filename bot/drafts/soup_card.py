"""From a soup's story to the values that its card prints."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from bot import cards
from bot.drafts.story import Story
from bot.drafts.terms import terms_of
from bot.licences import Terms
from bot.shelf import donor_of
from bot.world import Base, World
from db.rows import CandidateRow, MemberRow
from merge.checkpoint import read_layout
from merge.mergekit import to_mergekit_yaml
from merge.objective import Goal
from merge.outcomes import Outcomes
from merge.select import Method
from merge.splits import Split

PICTURE = "categories.png"
FLOATS = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
"""What can be averaged; buffers of other types are copied."""


def soup_card(world: World, story: Story, version: int) -> tuple[cards.SoupCard, Terms]:
    """The card of version `version`, and the terms of what it describes. Raises Rejected: see
    `terms_of`."""
    base = story.base
    donor = _donor(world, story)
    terms = _terms(story, donor)
    marked = [story.reference, *(m.candidate for m in _used(story))]
    card = cards.SoupCard(
        repo=base.section.target,
        version=f"v{version}",
        base=_source(story.reference),
        donor=donor,
        ingredients=tuple(_ingredient(story, member) for member in story.members),
        licence=cards.Licence(terms.licence or "other"),
        dtypes=_dtypes(world, story),
        recipe_digest=story.soup.recipe_digest,
        mergekit_yaml=to_mergekit_yaml(story.recipe),
        benchmark=_benchmark(base),
        rows=tuple(_row(story, category) for category in base.benchmark.categories),
        mean=_mean(story),
        selection=_selection(story),
        search=_search(story),
        gate=_gate(story),
        usage=_usage(base),
        objective=_objective(base),
        contact=world.settings.contact or "",
        picture=PICTURE,
        languages=tuple(sorted({x for m in _used(story) for x in m.candidate.languages})),
        not_for_all_audiences=any(candidate.not_for_all_audiences for candidate in marked),
    )
    return card, terms


def _used(story: Story) -> list[MemberRow]:
    """The members that are in the soup; one of weight 0 lends it nothing."""
    return [member for member in story.members if member.numerator]


def _donor(world: World, story: Story) -> cards.Source:
    """Whose configuration and tokenizer the soup carries: the base, or whom the operator named."""
    repo, sha = donor_of(story.base.section)
    if (repo, sha) == (story.reference.repo, story.reference.sha):
        return _source(story.reference)
    facts = world.hub.info(repo, sha)
    return cards.Source(repo, sha, facts.licence or "unknown", facts.author)


def _terms(story: Story, donor: cards.Source) -> Terms:
    section, used = story.base.section, _used(story)
    return terms_of(
        [story.reference.licence, donor.licence, *(m.candidate.licence for m in used)],
        section.target,
        private=section.private,
        withheld=any(member.candidate.publishable is False for member in used),
    )


def _source(candidate: CandidateRow) -> cards.Source:
    return cards.Source(
        candidate.repo, candidate.sha, candidate.licence or "unknown", candidate.author
    )


def _ingredient(story: Story, member: MemberRow) -> cards.Ingredient:
    chosen = [c for c, i in story.selection.experts.items() if i == member.candidate.id]
    weight = Fraction(member.numerator, member.denominator)
    return cards.Ingredient(_source(member.candidate), weight, tuple(chosen))


def _benchmark(base: Base) -> cards.Benchmark:
    suite, benchmark = base.benchmark.suite, base.benchmark
    counts = {split: sum(benchmark.sizes(split).values()) for split in Split}
    return cards.Benchmark(
        name=suite.name,
        version=suite.version,
        digest=suite.digest,
        splits_digest=benchmark.splits.digest,
        seed=base.section.seed,
        select=counts[Split.SELECT],
        tune=counts[Split.TUNE],
        report=counts[Split.REPORT],
    )


def score_of(outcomes: Outcomes, category: str) -> cards.Score:
    """Of one item there is no standard error; the card prints 0."""
    score = outcomes.score(category)
    return cards.Score(score.value, score.stderr if score.n > 1 else 0.0, score.n)


def _row(story: Story, category: str) -> cards.CategoryRow:
    difference = story.verdict["categories"][category]
    return cards.CategoryRow(
        category=category,
        soup=score_of(story.report["soup"], category),
        ingredients=tuple(score_of(story.report[m.candidate.pin], category) for m in story.members),
        base=score_of(story.report["base"], category),
        versus_best=_difference(difference),
        corrected=difference["holm"] is not None and difference["holm"] < story.level,
    )


def _mean(story: Story) -> cards.CategoryRow:
    """All categories together, as the objective has them."""
    aim = story.base.section.aim

    def together(outcomes: Outcomes) -> cards.Score:
        return cards.Score(aim.of(outcomes), aim.stderr(outcomes), outcomes.n_evaluated)

    return cards.CategoryRow(
        category="all",
        soup=together(story.report["soup"]),
        ingredients=tuple(together(story.report[m.candidate.pin]) for m in story.members),
        base=together(story.report["base"]),
        versus_best=_difference(story.verdict["differences"]["best member"]),
    )


def _objective(base: Base) -> str:
    match base.section.objective:
        case Goal.MEAN:
            return "mean over the categories"
        case Goal.WORST:
            return "lowest of the categories"
        case Goal.WEIGHTED:
            weights = base.section.category_weights
            shares = ", ".join(f"{c} {weights[c]:g}" for c in base.benchmark.categories)
            return f"mean over the categories with weights {shares}"


def _difference(raw: Mapping[str, Any]) -> cards.Difference:
    return cards.Difference(raw["mean"], raw["low"], raw["high"], 1 - raw["level"])


SETTINGS = {
    Method.SOCE: "correlations between categories over all scored models, signed, below tau",
    Method.COMPLEMENTARY: "what a member adds on single items, beyond noise",
}


def _selection(story: Story) -> cards.SelectionFigures:
    section, method = story.base.section, Method(story.selection.method)
    tau = (("tau", f"{section.tau:g}"),) if method is Method.SOCE else ()
    chosen = {m.candidate.id: m.candidate.repo for m in story.members}
    rival = {candidate.id: candidate.repo for candidate in story.rival}
    return cards.SelectionFigures(
        method=method,
        settings=(("by", SETTINGS[method]), *tau),
        considered=len(story.selection.inputs),
        rival=story.selection.figures["rival"]["method"],
        rival_adds=tuple(repo for i, repo in rival.items() if i not in chosen),
        rival_omits=tuple(repo for i, repo in chosen.items() if i not in rival),
    )


def _search(story: Story) -> cards.SearchFigures:
    best = story.search.best or {}
    return cards.SearchFigures(
        strategy=story.search.strategy,
        soups_tried=best["trials"],
        tune=cards.Score(best["value"], best["stderr"], best["full"]),
        evaluations=best["evaluations"],
        full=best["full"],
        grid=best["grid"],
    )


def _gate(story: Story) -> cards.GateFigures:
    differences, pooled = story.verdict["differences"], story.verdict.get("pooled")
    pins = [member.candidate.pin for member in story.members]
    return cards.GateFigures(
        best=pins.index(story.verdict["best_member"]),
        look=story.look,
        level=story.level,
        alpha=story.base.section.alpha,
        rivals=_rivals(differences),
        both_rounds=None if pooled is None else _rivals(pooled["differences"]),
        incumbent=story.incumbent if "incumbent" in differences else None,
        floor=story.base.section.floor,
        gained=differences["best member"]["gained"],
        lost=differences["best member"]["lost"],
        margin=story.base.section.margin,
    )


def _rivals(differences: Mapping[str, Any]) -> cards.Rivals:
    against = {name: _difference(raw) for name, raw in differences.items()}
    return cards.Rivals(
        items=differences["best member"]["n_items"],
        versus_best=against["best member"],
        versus_uniform=against.get("uniform"),
        versus_greedy=against.get("greedy"),
        versus_incumbent=against.get("incumbent"),
    )


def _usage(base: Base) -> cards.Usage:
    """The snippet asks the first item of the suite: a prompt in the form that was measured."""
    category = base.benchmark.suite.categories[0]
    return cards.Usage(prompt=category.items[0].prompt, max_new_tokens=32)


def _dtypes(world: World, story: Story) -> tuple[str, ...]:
    """As the written files have them, whatever a configuration says."""
    layout = read_layout(world.shelf.soup(story.soup.recipe_digest))
    found = {spec.dtype for spec in layout.tensors.values()}
    return tuple(name for dtype, name in FLOATS.items() if dtype in found)
