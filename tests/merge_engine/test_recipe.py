"""Recipes: canonical, exact, and closed under a round trip."""

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.errors import Code, Refused
from merge.recipe import Member, Recipe, check_weights, numerators, parse_weight

SHA = "ab" * 20


def digest(i):
    return f"{i:064x}"


def recipe(weights, order=None, dtype=None):
    members = [Member(f"org/m{i}", SHA, digest(i + 7), w) for i, w in enumerate(weights)]
    members = [members[i] for i in order] if order else members
    return Recipe("org/base", SHA, digest(1), tuple(members), dtype)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_round_trip_and_order_free_digest(parts, random):
    weights = [Fraction(p, sum(parts)) for p in parts]
    order = list(range(len(parts)))
    random.shuffle(order)
    original, shuffled = recipe(weights), recipe(weights, order)
    assert Recipe.from_json(original.to_json()) == original == shuffled
    assert original.digest == shuffled.digest
    assert original.to_json().isascii()
    assert " " not in original.to_json()


def test_digest_depends_on_every_field():
    half = [Fraction(1, 2)] * 2
    digests = {
        recipe(half).digest,
        recipe([Fraction(1, 3), Fraction(2, 3)]).digest,
        recipe(half, dtype="bfloat16").digest,
        Recipe("org/other", SHA, digest(1), recipe(half).members).digest,
        Recipe("org/base", "cd" * 20, digest(1), recipe(half).members).digest,
        Recipe("org/base", SHA, digest(2), recipe(half).members).digest,
    }
    assert len(digests) == 6


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.4", "2/5"), ("2/5", "2/5"), ("1", "1"), ("0", "0"), ("-0.1", "-1/10"), ("10/20", "1/2")],
)
def test_weights_are_exact(text, value):
    assert parse_weight(text) == Fraction(value)


@pytest.mark.parametrize(
    "text", ["", "a", "1/0", "1e5", "nan", "inf", " 1", "1 ", "½", "1/-2", "0.4.4", "1" * 30, "٣"]
)
def test_odd_weights_are_refused(text):
    with pytest.raises(Refused) as caught:
        parse_weight(text)
    assert caught.value.code is Code.WEIGHTS


def test_weights_must_sum_to_one_exactly():
    tenths = [Fraction(n, 10) for n in (1, 2, 7)]
    check_weights(tenths)
    for bad in ([], tenths[:2], [Fraction(0)], [Fraction(1, 3)] * 2, [Fraction(1)] * 2):
        with pytest.raises(Refused, match=r"^weights: "):
            check_weights(bad)
    minus = [Fraction(3, 2), Fraction(-1, 2)]
    with pytest.raises(Refused, match="negative"):
        check_weights(minus)
    check_weights(minus, allow_negative=True)


def test_huge_common_denominators_are_refused():
    primes = [99991, 99989, 99971, 99961]
    weights = [Fraction(1, p) for p in primes]
    with pytest.raises(Refused, match="denominator"):
        check_weights([*weights, 1 - sum(weights)])


def test_many_different_denominators_are_refused_in_words():
    """Their common one has more digits than Python would print."""
    members = [
        {"repo": "a/a", "sha": SHA, "digest": digest(i), "weight": f"1/{10**17 + 2 * i + 1}"}
        for i in range(2000)
    ]
    text = json.dumps({**json.loads(recipe([Fraction(1)]).to_json()), "members": members})
    with pytest.raises(Refused, match="denominator"):
        Recipe.from_json(text)
    with pytest.raises(Refused, match="numerators"):
        check_weights([Fraction(10**5000), 1 - Fraction(10**5000)], allow_negative=True)
    with pytest.raises(Refused, match="numerators"):
        check_weights([Fraction(-(10**5000))])


def test_numerators():
    assert numerators([Fraction(4, 10), Fraction(6, 10)]) == ((2, 3), 5)
    assert numerators([Fraction(1, 7), Fraction(0), Fraction(6, 7)]) == ((1, 0, 6), 7)
    assert numerators([Fraction(1)]) == ((1,), 1)


def test_same_content_twice_is_refused():
    m = Member("a/a", SHA, digest(5), Fraction(1, 2))
    with pytest.raises(Refused) as caught:
        Recipe("org/base", SHA, digest(1), (m, Member("b/b", SHA, digest(5), Fraction(1, 2))))
    assert caught.value.code is Code.DUPLICATE_MEMBER
    assert caught.value.subject in {"a/a", "b/b"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format":"stockpot-recipe","version":2}',
        '{"format":"stockpot-recipe","version":1,"base":{},"members":[]}',
        recipe([Fraction(1)]).to_json().replace('"weight":"1"', '"weight":1'),
        recipe([Fraction(1)]).to_json().replace(SHA, "main"),
        recipe([Fraction(1)]).to_json().replace(digest(7), "7"),
        recipe([Fraction(1)]).to_json().replace("org/m0", "a\\u001bb"),
        recipe([Fraction(1)]).to_json().replace('"dtype":null', '"dtype":"int4"'),
        recipe([Fraction(1)]).to_json() + "{}",
    ],
)
def test_malformed_recipes_are_refused(text):
    with pytest.raises(Refused) as caught:
        Recipe.from_json(text)
    assert caught.value.code is Code.BAD_RECIPE
