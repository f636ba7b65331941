"""Licences: every pair is decided, and the decision does not depend on the order."""

from itertools import combinations_with_replacement, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.licences import KNOWN, NOT_TO_SHARE, OWN_TERMS, PERMISSIVE, Terms, Use, combine, terms
from bot.localhub.validation import LICENCES as HUBS

ANY = [*sorted(KNOWN), None, "other", "made-up-1.0"]


def test_every_pair_is_decided():
    for left, right in combinations_with_replacement(ANY, 2):
        found = combine([left, right])
        assert found == combine([right, left])
        assert found.use >= max(terms(left).use, terms(right).use)
        assert found.use is not Use.PUBLIC or found.licence in (left, right)
        if None in (terms(left).licence, terms(right).licence):
            assert found == Terms(Use.NEVER, None)


@given(st.lists(st.sampled_from(ANY), min_size=1, max_size=5), st.randoms())
def test_the_order_of_many_does_not_matter(licences, random):
    shuffled = licences[:]
    random.shuffle(shuffled)
    assert combine(licences) == combine(shuffled)


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        (["mit"], Terms(Use.PUBLIC, "mit")),
        (["mit", "apache-2.0"], Terms(Use.PUBLIC, "apache-2.0")),
        (["apache-2.0", "cc-by-4.0", "mit"], Terms(Use.PUBLIC, "cc-by-4.0")),
        (["llama3.1", "apache-2.0"], Terms(Use.PUBLIC, "llama3.1")),
        (["llama3.1", "llama3.1"], Terms(Use.PUBLIC, "llama3.1")),
        (["llama3.1", "gemma"], Terms(Use.PRIVATE, None)),
        (["llama3.1", "llama3.2"], Terms(Use.PRIVATE, None)),
        (["cc-by-sa-4.0", "gpl-3.0"], Terms(Use.PRIVATE, None)),
        (["mit", "cc-by-nc-4.0"], Terms(Use.PRIVATE, "cc-by-nc-4.0")),
        (["mit", "other"], Terms(Use.NEVER, None)),
        (["mit", None], Terms(Use.NEVER, None)),
        ([], Terms(Use.NEVER, None)),
    ],
)
def test_examples(licences, expected):
    assert combine(licences) == expected


def test_every_licence_that_a_card_may_carry_is_known_to_the_hub():
    assert KNOWN - set(HUBS) == set()


def test_the_three_families_are_disjoint():
    for left, right in product((PERMISSIVE, OWN_TERMS, NOT_TO_SHARE), repeat=2):
        assert left is right or not set(left) & set(right)
