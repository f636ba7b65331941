"""The items that a job is about."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from bot.suites import Category, SuiteError, items, load_suite
from merge.splits import Split


def questions(
    suite: str,
    seed: int,
    shares: Sequence[float],
    split: str,
    wanted: Collection[str] | None,
) -> tuple[Category, ...]:
    """The categories of a suite with the items of one split, in the suite's order; only those
    `wanted`, all where it is None.

    Raises SuiteError for a category that is not there or has no item in the split.
    """
    loaded = load_suite(suite)
    chosen = items(loaded, loaded.splits(seed, shares), Split(split))
    if unknown := sorted(set(wanted or ()) - chosen.keys()):
        raise SuiteError(Path(suite), f"no category {unknown[0]!r}")
    categories = tuple(
        replace(category, items=chosen[category.name])
        for category in loaded.categories
        if wanted is None or category.name in wanted
    )
    for category in categories:
        if not category.items:
            raise SuiteError(Path(suite), f"category {category.name!r} has no {split} item")
    return categories
