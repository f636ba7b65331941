import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.splits import Leak, Split, split_clusters

names = st.text("abcdef", min_size=1, max_size=4)


@given(st.dictionaries(st.sampled_from("xyz"), st.lists(names, min_size=1), min_size=1),
       st.integers(0, 99))  # fmt: skip
def test_a_cluster_stands_in_one_split_across_categories(groups, seed) -> None:
    splits = split_clusters(groups, seed=seed)
    parts = [splits.clusters(split) for split in Split]
    assert not any(a & b for a, b in itertools.combinations(parts, 2))
    assert frozenset().union(*parts) == set(itertools.chain(*groups.values()))
    for clusters in groups.values():
        positions = [i for split in Split for i in splits.positions(clusters, split)]
        assert sorted(positions) == list(range(len(clusters)))


@given(st.sets(names, min_size=1), st.integers(0, 99), st.randoms())
def test_input_order_does_not_matter_and_the_seed_does(clusters, seed, random) -> None:
    shuffled = list(clusters)
    random.shuffle(shuffled)
    assert split_clusters(shuffled, seed=seed) == split_clusters(clusters, seed=seed)


def test_seeds_give_other_splits() -> None:
    clusters = [str(i) for i in range(100)]
    assert split_clusters(clusters, seed=1).digest != split_clusters(clusters, seed=2).digest


def test_marks_tell_what_two_divisions_share() -> None:
    some, more = [str(i) for i in range(100)], [str(i) for i in range(101)]
    one = split_clusters(some, seed=1)
    other = split_clusters(more, seed=2)
    shared = one.clusters(Split.REPORT) & other.clusters(Split.REPORT)
    marks = set(one.marks(Split.REPORT)) & set(other.marks(Split.REPORT))
    assert len(marks) == len(shared) > 0
    assert set(one.marks(Split.TUNE, Split.REPORT)) == {
        *one.marks(Split.TUNE),
        *one.marks(Split.REPORT),
    }
    assert split_clusters([f"new {i}" for i in range(100)], seed=1).marks(*Split) != one.marks(
        *Split
    )


def test_every_category_gets_its_shares() -> None:
    groups = {"big": [f"b{i}" for i in range(1000)], "small": [f"s{i}" for i in range(10)]}
    splits = split_clusters(groups, seed=3)
    for clusters in groups.values():
        for split, share in zip(Split, (0.4, 0.3, 0.3), strict=True):
            assert abs(len(splits.positions(clusters, split)) - share * len(clusters)) <= 1


def test_stored_splits_come_back_or_are_refused() -> None:
    splits = split_clusters([str(i) for i in range(20)], seed=5)
    assert type(splits).from_json(splits.to_json()) == splits
    raw = json.loads(splits.to_json())
    cluster = next(iter(raw["assignment"]))
    raw["assignment"][cluster] = "report" if raw["assignment"][cluster] != "report" else "tune"
    with pytest.raises(ValueError, match="were changed"):
        type(splits).from_json(json.dumps(raw))


def test_clusters_of_another_split_are_refused() -> None:
    splits = split_clusters([str(i) for i in range(20)], seed=5)
    splits.require(Split.TUNE, splits.clusters(Split.TUNE), "a search")
    with pytest.raises(Leak, match="report items only"):
        splits.require(Split.REPORT, splits.clusters(Split.SELECT), "the gate")
    with pytest.raises(Leak, match="no split"):
        splits.require(Split.REPORT, ["never seen"], "the gate")


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.5), (1.2, -0.2, 0.0), (np.nan, 0.5, 0.5)])
def test_shares_sum_to_one(shares) -> None:
    with pytest.raises(ValueError, match="shares"):
        split_clusters(["a"], seed=0, shares=shares)
