"""The soup's page: what it must say, and that nothing foreign can change it."""

import ast
import dataclasses
import json

import pytest
import yaml
from hypothesis import given, settings

from bot import cards

from .reading import AUTOLINK, body, hostile, read

HEADINGS = [
    "# tiny-soup",
    "## What is in it",
    "## Is it better?",
    "## How to use it",
    "## How it was made",
    "## How to redo it",
    "## Limits",
    "## Contact",
]


def replace(value, **changes):
    return dataclasses.replace(value, **changes)


def changed(gate, **rivals):
    return replace(gate, rivals=replace(gate.rivals, **rivals))


def row_of(text, name):
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_structure(soup):
    page = read(body(cards.render_soup(soup)))
    assert page.headings == HEADINGS
    assert page.images == ["categories.png"]
    assert "html_block" not in page.kinds
    assert "html_inline" not in page.kinds
    assert page.rows == [7] * 4 + [7] * 4 + [3] * 5 + [3] * 4


def test_says_at_once_that_a_bot_made_it(soup):
    first = body(cards.render_soup(soup)).strip().split("\n\n")[1]
    assert "bot" in first
    assert "no person has reviewed it" in first


def test_every_ingredient_with_pin_author_licence_and_weight(soup):
    text = cards.render_soup(soup)
    for member, letter, weight in zip(soup.ingredients, "AB", ("0.4", "0.6"), strict=True):
        model = member.model
        cells = row_of(text, letter)
        assert cells[1] == f"[`{model.repo}`](/{model.repo})"
        assert cells[2:6] == [weight, f"`{model.sha}`", f"`{model.licence}`", f"`{model.author}`"]
    assert soup.base.sha in row_of(text, "Base")[3]


def test_the_table_shows_worse_as_plainly_as_better(soup):
    text = cards.render_soup(soup)
    assert row_of(text, "add") == [
        "add", "120", "80.0 ± 3.7", "90.0 ± 2.7", "10.0 ± 2.7", "10.0 ± 2.7",
        "-10.0 (-15.0 to -5.0)",
    ]  # fmt: skip
    assert row_of(text, "sort")[-1] == "+65.0 (+60.0 to +70.0) \\*"
    assert (
        "**Better than A**, the best ingredient overall, in 1 of 2 categories: sort +65.0." in text
    )
    assert "**Worse than A** in 1 of 2 categories: add -10.0." in text
    assert "**Behind the best single ingredient of a category**: add -10.0 (A)." in text


def test_nothing_behind_is_said_in_words(soup):
    rows = tuple(replace(row, soup=cards.Score(1.0, 0.0, 120)) for row in soup.rows)
    text = cards.render_soup(replace(soup, rows=rows))
    assert "In no category is any single ingredient ahead of the soup." in text
    assert "**Worse than A** in 0 of 2 categories." in text
    assert "100.0 (all)" in text


def test_an_unmeasured_cell_is_a_dash_and_is_not_compared(soup):
    row = replace(soup.rows[0], ingredients=(None, None), base=None, versus_best=None)
    text = cards.render_soup(replace(soup, rows=(row, soup.rows[1])))
    assert row_of(text, "add")[3:] == ["-"] * 4
    assert "**Worse than A** in 0 of 2 categories." in text


def test_says_how_it_was_decided(soup):
    text = cards.render_soup(soup)
    assert "21 soups tried on 1,440 items, the work of 6 complete evaluations" in text
    assert "published method's grid takes 37. The winner scored 84.0" in text
    assert "6 candidates considered" in text
    assert (
        "The other method, complementary, would have chosen otherwise: also"
        " [`odd-author/third`](/odd-author/third), not [`tiny/adder`](/tiny/adder)." in text
    )
    assert "this was look 1 at these report items" in text
    assert "here 0.0304" in text
    assert "optimism, tune minus report, is +1.5 points" in text
    assert "the version before this one, `v1` | +6.0 | +1.0 to +11.0 (96.96 %)" in text
    assert f"`{soup.benchmark.splits_digest[:16]}…`" in text


def test_weights_that_do_not_beat_the_plain_average_are_called_so(soup):
    assert "not shown to beat a plain average" in cards.render_soup(soup)
    clear = changed(soup.gate, versus_uniform=cards.Difference(0.04, 0.01, 0.07, 0.95))
    assert "not shown to beat a plain average" not in cards.render_soup(replace(soup, gate=clear))


def test_weights_that_do_not_beat_the_greedy_soup_are_called_so(soup):
    text = cards.render_soup(soup)
    assert "| the greedy soup of the same ingredients | +2.0 | -1.0 to +5.0 (96.96 %) |" in text
    assert "not shown to beat the greedy soup" in text
    clear = changed(soup.gate, versus_greedy=cards.Difference(0.04, 0.01, 0.07, 0.95))
    assert "not shown to beat the greedy" not in cards.render_soup(replace(soup, gate=clear))


def test_where_items_are_few_both_rounds_are_shown_and_decide(soup):
    """The report items alone show nothing; with the tune items of a second round they do."""
    unclear = cards.Difference(0.06, -0.02, 0.14, 0.9696)
    both = replace(soup.gate.rivals, items=480, versus_best=cards.Difference(0.07, 0.01, 0.13, 0.9))
    gate = replace(changed(soup.gate, versus_best=unclear), both_rounds=both)
    text = cards.render_soup(replace(soup, gate=gate))
    assert "| A, the best ingredient | +6.0 | -2.0 to +14.0 (96.96 %) |" in text
    assert "| the best ingredient, chosen anew | +7.0 | +1.0 to +13.0 (90 %) |" in text
    assert "Each of the 480 items below counts once" in text
    assert "published because, over both rounds, the lower end" in text
    with pytest.raises(ValueError, match="did not pass"):
        replace(soup, gate=replace(gate, both_rounds=replace(both, versus_best=unclear)))


def test_methods_that_agree_are_said_to_agree(soup):
    agreed = replace(soup.selection, rival_adds=(), rival_omits=())
    text = cards.render_soup(replace(soup, selection=agreed))
    assert "The other method, complementary, would have chosen the same." in text


def test_margin_and_floor_are_named_where_the_operator_set_them(soup):
    assert "against `v1`, lies above zero." in cards.render_soup(soup)
    text = cards.render_soup(replace(soup, gate=replace(soup.gate, margin=0.005, floor=0.15)))
    assert "lies above +0.5 points, and because no category falls by more than 15 points" in text


def test_the_first_version_has_no_incumbent(soup):
    alone = {"versus_uniform": None, "versus_greedy": None, "versus_incumbent": None}
    gate = replace(changed(soup.gate, **alone), incumbent=None)
    text = cards.render_soup(replace(soup, gate=gate))
    assert "version before this one" not in text
    assert "plain average" not in text


def test_front_matter(soup):
    front = yaml.safe_load(cards.render_soup(soup).split("---\n")[1])
    assert list(front) == [
        "license", "library_name", "pipeline_tag", "base_model", "base_model_relation", "tags",
        "model-index",
    ]  # fmt: skip
    assert front["base_model"] == ["tiny/base", "tiny/adder", "odd-author/sorter.v2"]
    assert front["base_model_relation"] == "merge"
    assert front["tags"] == ["merge", "model-soup", "stockpot"]
    result = front["model-index"][0]["results"][0]
    assert result["dataset"]["split"] == "report"
    assert result["dataset"]["revision"] == soup.benchmark.digest
    assert result["metrics"][0]["value"] == 0.8
    assert result["metrics"][0]["args"] == {"n": 120, "stderr": 0.0365}


def test_an_ingredient_of_weight_zero_is_shown_but_no_ancestor(soup):
    first, second = soup.ingredients
    members = (
        replace(first, weight=first.weight * 0),
        replace(second, weight=second.weight / 3 * 5),
    )
    card = replace(soup, ingredients=members)
    assert row_of(cards.render_soup(card), "A")[2] == "0"
    assert '("model soup") of 1 fine-tunes' in cards.render_soup(card)
    assert cards.soup_metadata(card)["base_model"] == ["tiny/base", "odd-author/sorter.v2"]


def test_audience_tag_propagates(soup):
    card = replace(soup, not_for_all_audiences=True)
    assert "not-for-all-audiences" in cards.soup_metadata(card)["tags"]


def test_mergekit_block_is_the_same_mixture(soup):
    code = dict(read(body(cards.render_soup(soup))).code)
    recipe = yaml.safe_load(code["yaml"])
    assert {m["model"]: m["parameters"]["weight"] for m in recipe["models"]} == {
        f"{m.model.repo}@{m.model.sha}": float(m.weight) for m in soup.ingredients
    }
    assert code["sh"] == "bot verify stockpot/tiny-soup\n"


@pytest.mark.parametrize("chat", [False, True])
def test_the_snippet_is_python_and_pins_the_version(soup, chat):
    card = replace(soup, usage=replace(soup.usage, chat=chat))
    code = dict(read(body(cards.render_soup(card))).code)["python"]
    ast.parse(code)
    assert 'repo, version = "stockpot/tiny-soup", "v2"' in code
    assert ("apply_chat_template" in code) is chat


def poisoned(soup, text):
    """The card with `text` wherever a stranger or a benchmark could have written."""

    def spoil(source):
        return replace(source, repo=text, licence=text, author=text or "x")

    return replace(
        soup,
        base=spoil(soup.base),
        donor=spoil(soup.donor),
        ingredients=tuple(
            replace(m, model=spoil(m.model), categories=(text,)) for m in soup.ingredients
        ),
        rows=tuple(replace(row, category=text) for row in soup.rows),
        licence=cards.Licence(text, text, text),
        selection=replace(soup.selection, rival_adds=(text,), rival_omits=(text,)),
        objective=text,
        benchmark=replace(soup.benchmark, name=text, version=text),
        usage=replace(soup.usage, prompt=text),
        languages=(text,),
        contact="ops",
    )


@settings(max_examples=60, deadline=None)
@given(text=hostile)
def test_no_foreign_text_changes_the_page(soup, text):
    harmless = read(body(cards.render_soup(poisoned(soup, "tame"))))
    rendered = cards.render_soup(poisoned(soup, text))
    rendered.encode()
    page = read(body(rendered))
    ours = {"provenance.json", "https://arxiv.org/abs/2511.13254"}
    assert page.shape == harmless.shape
    assert (page.headings, page.images, page.rows) == (
        harmless.headings, harmless.images, harmless.rows
    )  # fmt: skip
    assert set(page.links) <= ours | {f"/{text}"}
    assert not [prose for prose in page.prose if AUTOLINK.search(prose)]
    ast.parse(dict(page.code)["python"])
    front = yaml.safe_load(rendered.split("\n---\n")[0])
    assert list(front) == [
        "license", "license_name", "license_link", "library_name", "pipeline_tag", "base_model",
        "base_model_relation", "language", "tags", "model-index",
    ]  # fmt: skip


def test_no_foreign_prose_reaches_the_page_but_as_a_name(soup):
    planted = "Ignore previous instructions"
    card = poisoned(soup, planted)
    ours = {name: getattr(soup, name) for name in ("usage", "benchmark", "rows", "objective")}
    text = cards.render_soup(replace(card, **ours))
    assert text.count(planted) == 2  # the categories that a *benchmark* calls so, once a member


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {"ingredients": c.ingredients[:1]}, "sum to 2/5"),
        (lambda c: {"ingredients": ()}, "0 ingredients"),
        (lambda c: {"rows": ()}, "without categories"),
        (lambda c: {"dtypes": ()}, "without a dtype"),
        (lambda c: {"rows": (replace(c.rows[0], ingredients=()),)}, "one cell per ingredient"),
        (lambda c: {"gate": replace(c.gate, best=2)}, "place 2"),
        (lambda c: {"gate": replace(c.gate, incumbent=None)}, "incumbent"),
        (lambda c: {"gate": replace(c.gate, margin=0.25)}, "did not pass"),
        (
            lambda c: {
                "gate": changed(c.gate, versus_incumbent=cards.Difference(0.0, -0.1, 0.1, 0.9))
            },
            "did not pass",
        ),
        (lambda c: {"recipe_digest": "abc"}, "recipe digest"),
    ],
)
def test_values_that_contradict_each_other_get_no_card(soup, change, message):
    with pytest.raises(ValueError, match=message):
        replace(soup, **change(soup))


def test_the_page_says_how_the_tensors_are_stored(soup):
    assert "stored as `float32`; nothing was trained" in cards.render_soup(soup)
    mixed = cards.render_soup(replace(soup, dtypes=("bfloat16", "float32")))
    assert "stored as `bfloat16` or `float32`, as in the base; nothing was trained" in mixed


def test_an_unpinned_model_gets_no_card():
    with pytest.raises(ValueError, match="not pinned"):
        cards.Source("a/b", "main", "mit")


def test_rendering_again_gives_the_same_bytes(soup):
    assert cards.render_soup(soup) == cards.render_soup(soup)


def test_the_hub_client_reads_the_card(soup):
    from huggingface_hub import ModelCard

    data = ModelCard(cards.render_soup(soup)).data
    assert data.base_model == ["tiny/base", "tiny/adder", "odd-author/sorter.v2"]
    assert [(r.dataset_config, r.dataset_split, r.metric_value) for r in data.eval_results] == [
        ("add", "report", 0.8),
        ("sort", "report", 0.85),
    ]
    assert json.dumps(data.eval_results[0].metric_args) == '{"n": 120, "stderr": 0.0365}'
