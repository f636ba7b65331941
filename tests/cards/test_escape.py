"""Whatever a stranger writes, the filters let through a name and nothing else."""

import ast

import jinja2
import pytest
from hypothesis import example, given

from bot.cards import escape
from bot.cards.render import _environment

from .reading import ATTACKS, AUTOLINK, hostile, read

PLACES = (
    "Before {} after.",
    "# Heading {}",
    "- item {}",
    "- **Bold**: {}, and more",
    "| a | b |\n|---|---|\n| {} | x |\n| y | {} |",
)


def assert_only_text(value, shown, place):
    """The page has the same structure as with a harmless word, and no automatic link."""
    page, harmless = read(place.format(shown, shown)), read(place.format("word", "word"))
    assert page.shape == harmless.shape
    assert page.rows == harmless.rows
    for text in page.prose:
        assert not AUTOLINK.search(text), (value, text)
    return page


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "show", [escape.show_label, escape.show_sentence, escape.show_token, escape.show_repo]
)
@given(value=hostile)
def test_no_value_changes_the_page(place, show, value):
    page = assert_only_text(value, show(value), place)
    allowed = (
        {f"/{value}"} if show is escape.show_repo and escape.REPO_ID.fullmatch(value) else set()
    )
    assert set(page.links) <= allowed


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_planted_sentence_is_not_a_repository_id(attack):
    assert escape.show_repo(attack).startswith("`unprintable-")


def test_a_repository_named_like_an_address_is_linked_to_the_hub_only():
    page = read(f"Made from {escape.show_repo('www.evil.example/x')}.")
    assert page.links == ["/www.evil.example/x"]
    assert not any(AUTOLINK.search(text) for text in page.prose)


def test_plain_names_stay_plain():
    for name in ("add", "Multi Turn Acc", "multi_turn", "aligned alone, T=1.2", "95 % of quality"):
        assert escape.show_label(name) == name


def test_labels_are_one_short_line():
    assert escape.label("a\n\tb\u202e\u2028c") == "a b c"
    assert len(escape.label("x" * 500)) == 80
    assert escape.label("\x00") == "(empty)"


@given(hostile)
def test_python_literals_mean_the_same_and_stay_on_one_ascii_line(value):
    literal = escape.python_literal(value)
    assert ast.literal_eval(literal) == value
    assert literal.isascii()
    assert len(literal.splitlines()) == 1


@given(hostile)
@example("```\nfree\n")
@example("````\n# heading")
def test_a_fence_holds_what_is_in_it(value):
    text = "".join(c for c in value if c.isprintable() or c == "\n")
    page = read(f"Before.\n\n{escape.fenced(text, 'yaml')}\n\nAfter.")
    assert page.kinds["fence"] == 1
    assert page.kinds["paragraph_open"] == 2
    assert page.code[0][1].rstrip("\n") == text.rstrip().rstrip("\n")


@pytest.mark.parametrize(
    ("contact", "links"),
    [
        ("https://example.org/a?b=c", ["https://example.org/a?b=c"]),
        ("ops@example.org", ["mailto:ops@example.org"]),
        ("https://x.y/>[a](b)", []),
        ("http://plain.example", []),
    ],
)
def test_contact(contact, links):
    assert read(f"Write to {escape.show_contact(contact)}.").links == links


def test_a_forgotten_filter_fails_the_render():
    environment = _environment()
    with pytest.raises(TypeError, match="without a filter"):
        environment.from_string("{{ value }}").render(value="harmless")
    with pytest.raises((TypeError, jinja2.UndefinedError)):
        environment.from_string("{{ absent }}").render()


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (escape.show_commit, "main"),
        (escape.show_commit, "A" * 40),
        (escape.show_digest, "ab"),
        (escape.show_path, "../secret"),
        (escape.show_path, "a b.png"),
        (escape.show_path, "https://x/y.png"),
    ],
)
def test_pins_and_paths_are_exact(check, value):
    with pytest.raises(ValueError, match="not"):
        check(value)
