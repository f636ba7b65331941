"""The router's page: the controls stand beside the router, and losing to one is said plainly."""

import ast
import dataclasses

import pytest
import yaml
from hypothesis import example, given, settings

from bot import cards
from bot.cards.escape import show_sentence
from bot.cards.router import FORMATS, RULES, FormatTrial, Gain, Indicator, Method
from route import formats, presets
from route.rounds import Ruler

from .reading import AUTOLINK, body, hostile, read

LEVEL = cards.Estimate(0.5, 0.4, 0.6)
METHOD = Method(
    words=14,
    embeddings="hidden states",
    reach=0.57,
    block_forwards=1.42,
    formats=(FormatTrial("qa", LEVEL, LEVEL), FormatTrial("plain", LEVEL, LEVEL)),
    format_rule="The best one is taken.",
)


@pytest.fixture
def studied(router):
    """With everything that a calibration may tell."""
    return replace(
        router,
        indicators=(Indicator("p-punc", 4, LEVEL, LEVEL), Indicator("rand", 4, LEVEL, LEVEL)),
        gains=(Gain("rand", cards.Estimate(-0.05, -0.1, 0.02)),),
        method=METHOD,
    )


def replace(value, **changes):
    return dataclasses.replace(value, **changes)


def snippet(card):
    return dict(read(body(cards.render_router(card))).code)["python"]


def test_structure(router):
    page = read(body(cards.render_router(router)))
    assert page.headings == [
        "# tiny-router",
        "## What is in it",
        "## How to use it",
        "## Presets",
        "## What was measured",
        "## Limits",
        "## Where it comes from",
        "## Contact",
    ]
    assert page.images == ["curve.png"]
    assert page.rows == [5] * 3 + [3] * 3 + [7] * 4 + [5] * 2
    assert "https://arxiv.org/abs/2511.05650" in page.links


def test_coverage_formats_reach_and_cost_are_told(studied):
    text = cards.render_router(studied)
    page = read(body(text))
    assert page.rows == [5] * 3 + [3] * 3 + [7] * 4 + [5] * 2 + [4] * 3 + [3] * 3
    assert "| p-punc | 4 | 0.5 (0.4 to 0.6) | 0.5 (0.4 to 0.6) |" in text
    assert "Coverage of this router minus that of rand: -0.05 (-0.1 to +0.02).\n" in text
    assert "(figures below; its Coverage minus that of rand is -0.05 (-0.1 to +0.02))" in text
    assert "at most 57 % of the positions" in text
    assert 'execution="block"' in text
    assert "for 1.42 forwards per token" in text
    assert "differ too much" not in text
    apart = replace(studied, method=replace(METHOD, block_forwards=1.97))
    assert "differ too much" in cards.render_router(apart)
    assert "| `qa` (chosen) |" in text
    assert "| `plain` | 0.5" in text
    assert "was chosen so: The best one is taken.\n" in text


def test_what_was_not_measured_is_not_mentioned(studied):
    plain = replace(METHOD, reach=1.0, block_forwards=None, format_rule="")
    text = cards.render_router(replace(studied, method=plain, indicators=(), gains=()))
    assert "the first 14 words" in text
    for absent in ("**Reach**", 'execution="block"', "chosen so", "Coverage"):
        assert absent not in text


def test_both_pins_stand_on_the_page_and_in_the_snippet(router):
    text = cards.render_router(router)
    for model in (router.base, router.aligned):
        assert text.count(model.sha) == 2


def test_front_matter(router):
    front = yaml.safe_load(cards.render_router(router).split("---\n")[1])
    assert front == {
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "base_model": ["tiny/base-text", "tiny/aligned"],
        "tags": ["custom_generate", "baco", "stockpot"],
    }


def test_controls_stand_beside_the_router(router):
    lines = [line for line in cards.render_router(router).splitlines() if " (41 to 49) " in line]
    assert [line.split("|")[1].strip() for line in lines] == [
        "P-PUNC (balanced)",
        "control: aligned alone, T=1.2",
        "control: RAND",
    ]
    assert "0.7 (0.68 to 0.72)" in lines[0]


@pytest.mark.parametrize("beats", [True, False])
def test_says_whether_it_beats_random_switching(router, beats):
    text = cards.render_router(replace(router, beats_random=beats))
    assert ("is not shown to beat switching at random" in text) is not beats
    assert ("it beats switching at random" in text) is beats
    assert "| RAND | 29 % | 30 % | +0.012 (-0.01 to +0.034) | +0.2 (+0.1 to +0.3) |" in text


@pytest.mark.parametrize("beats", [True, False])
def test_says_when_a_coin_covers_more(studied, beats):
    """Said whatever the default setting does: both are figures of the same texts."""
    said = "worse than a coin**: it covers less of the plane of diversity and quality than "
    assert said not in cards.render_router(replace(studied, beats_random=beats))
    gains = [
        Gain(f"rand{x}", cards.Estimate(-0.1, -0.2, high)) for x, high in enumerate((0, -0.01))
    ]
    text = cards.render_router(replace(studied, gains=tuple(gains), beats_random=beats))
    assert f"{said}rand1 at the same base shares, beyond noise.\n" in text


def test_says_when_nobody_compared(router):
    text = cards.render_router(replace(router, against_random=(), beats_random=None))
    assert "was not compared with random switching" in text


def test_rule_and_notes_are_printed_whole(router):
    text = cards.render_router(router)
    assert f" {router.rule}\n" in text
    assert f"\nNote: {router.notes[0]}\n" in text


@pytest.mark.parametrize("router_name", RULES)
@pytest.mark.parametrize("prompt_format", FORMATS)
@pytest.mark.parametrize("chat", [False, True])
def test_the_snippet_fits_the_calibrated_prompt_format(router, router_name, prompt_format, chat):
    card = replace(router, router=router_name, prompt_format=prompt_format, chat=chat)
    code = snippet(card)
    ast.parse(code)
    assert ("prompts=[prompt]" in code) is (prompt_format != "same")
    assert ("apply_chat_template" in code) is chat
    assert 'custom_generate="stockpot/tiny-router"' in code


def test_without_presets_threshold_or_picture(router):
    card = replace(router, presets=(), threshold=None, picture=None, router="punc")
    page = read(body(cards.render_router(card)))
    assert "## Presets" not in page.headings
    assert not page.images
    assert "**Threshold**" not in cards.render_router(card)


@settings(max_examples=60, deadline=None)
@given(text=hostile)
@example(text="1. item")
@example(text="1) item")
def test_no_foreign_text_changes_the_page(router, text):
    method = (Indicator("p", 4, LEVEL, LEVEL),)
    router = replace(router, indicators=method, gains=(Gain("rand", LEVEL),))

    def poisoned(value):
        def spoil(source):
            return replace(source, repo=value, licence=value, author=value or "x")

        return replace(
            router,
            base=spoil(router.base),
            aligned=spoil(router.aligned),
            licence=cards.Licence(value),
            prompt=value,
            settings=tuple(replace(s, name=value) for s in router.settings),
            presets=tuple(replace(p, name=value, threshold=value) for p in router.presets),
            rule=value or "x",
            notes=(value,),
            against_random=tuple(replace(o, control=value) for o in router.against_random),
            indicators=tuple(replace(one, method=value) for one in router.indicators),
            gains=tuple(replace(one, control=value) for one in router.gains),
            method=replace(METHOD, embeddings=value, format_rule=value or "x"),
            diversity_name=value,
            quality_name=value,
            contact="ops",
        )

    harmless = read(body(cards.render_router(poisoned("tame"))))
    rendered = cards.render_router(poisoned(text))
    rendered.encode()
    page = read(body(rendered))
    ours = {"provenance.json", "router.json", "https://arxiv.org/abs/2511.05650"}
    assert page.shape == harmless.shape
    assert (page.headings, page.images, page.rows) == (
        harmless.headings, harmless.images, harmless.rows
    )  # fmt: skip
    assert set(page.links) <= ours | {f"/{text}"}
    assert not [prose for prose in page.prose if AUTOLINK.search(prose)]
    ast.parse(dict(page.code)["python"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"router": "judge"}, "unknown router"),
        ({"prompt_format": "xml"}, "unknown prompt format"),
        ({"config_digest": ""}, "config digest"),
        ({"settings": ()}, "without a measured setting"),
        ({"beats_random": None}, "needs the comparison"),
        ({"against_random": ()}, "needs the comparison"),
    ],
)
def test_values_that_make_no_sense_get_no_card(router, change, message):
    with pytest.raises(ValueError, match=message):
        replace(router, **change)


@pytest.mark.parametrize(
    "prose", [presets.RULE, formats.RULE, Ruler().quality_name, Ruler().encoder_name]
)
def test_our_own_prose_is_printed_in_full(prose):
    assert show_sentence(prose) == prose
