"""One soup and one router as values."""

from fractions import Fraction

import pytest

from bot import cards

YAML = """\
merge_method: linear
base_model: "tiny/base@{base}"
models:
  - model: "tiny/adder@{a}"
    parameters:
      weight: 0.4
  - model: "odd-author/sorter.v2@{b}"
    parameters:
      weight: 0.6
parameters:
  normalize: false
dtype: float32
"""
SHA = {name: digit * 40 for name, digit in (("base", "0"), ("a", "1"), ("b", "e"))}


def _score(value, n=120):
    return cards.Score(value, (value * (1 - value) / n) ** 0.5, n)


def _row(category, soup, a, b, corrected):
    change = cards.Difference(soup - a, soup - a - 0.05, soup - a + 0.05, 0.9696)
    cells = (_score(a), _score(b))
    return cards.CategoryRow(category, _score(soup), cells, _score(0.1), change, corrected)


@pytest.fixture(scope="session")
def soup():
    rows = (_row("add", 0.8, 0.9, 0.1, False), _row("sort", 0.85, 0.2, 0.8, True))
    mean = cards.CategoryRow(
        "all",
        _score(0.825, 240),
        (_score(0.55, 240), _score(0.45, 240)),
        _score(0.1, 240),
        cards.Difference(0.275, 0.2, 0.35, 0.9696),
    )
    base = cards.Source("tiny/base", SHA["base"], "apache-2.0")
    return cards.SoupCard(
        repo="stockpot/tiny-soup",
        version="v2",
        base=base,
        donor=base,
        ingredients=(
            cards.Ingredient(
                cards.Source("tiny/adder", SHA["a"], "mit"), Fraction(2, 5), ("add",)
            ),
            cards.Ingredient(
                cards.Source("odd-author/sorter.v2", SHA["b"], "apache-2.0"), Fraction(3, 5)
            ),
        ),
        licence=cards.Licence("apache-2.0"),
        dtypes=("float32",),
        recipe_digest="ab" * 32,
        mergekit_yaml=YAML.format(**SHA),
        benchmark=cards.Benchmark(
            "tiny-skills", "1", "12e4567" + "0" * 57, "ef" * 32, 7, 320, 240, 240
        ),
        rows=rows,
        mean=mean,
        selection=cards.SelectionFigures(
            "soce", (("tau", "0.1"),), 6, "complementary", ("odd-author/third",), ("tiny/adder",)
        ),
        search=cards.SearchFigures("surrogate", 21, _score(0.84, 240), 1440, 240, 37),
        gate=cards.GateFigures(
            best=0,
            look=1,
            level=0.0304,
            alpha=0.05,
            rivals=cards.Rivals(
                items=240,
                versus_best=mean.versus_best,
                versus_uniform=cards.Difference(0.01, -0.02, 0.04, 0.9696),
                versus_greedy=cards.Difference(0.02, -0.01, 0.05, 0.9696),
                versus_incumbent=cards.Difference(0.06, 0.01, 0.11, 0.9696),
            ),
            incumbent="v1",
            gained=80,
            lost=14,
        ),
        usage=cards.Usage('12+7="`', 4),
        contact="https://example.org/stockpot",
    )  # fmt: skip


@pytest.fixture(scope="session")
def router():
    def setting(name, control, share, diversity, preset=None):
        return cards.Setting(
            name, control, share, None if control else 0.31,
            cards.Estimate(diversity, diversity - 0.02, diversity + 0.02),
            cards.Estimate(-1.2, -1.3, -1.1), cards.Estimate(45, 41, 49), 1.9, preset,
        )  # fmt: skip

    return cards.RouterCard(
        repo="stockpot/tiny-router",
        version="v1",
        base=cards.Source("tiny/base-text", SHA["a"], "apache-2.0"),
        aligned=cards.Source("tiny/aligned", SHA["b"], "mit"),
        licence=cards.Licence("apache-2.0"),
        router="p-punc",
        threshold=0.31,
        prompt_format="qa",
        chat=False,
        prompt="tell a story",
        sampling=cards.Sampling(1.0, 1.0, 0, 8, 2),
        settings=(
            setting("RAND", True, 0.3, 0.69),
            setting("aligned alone, T=1.2", True, 0.0, 0.6),
            setting("P-PUNC", False, 0.3, 0.7, "balanced"),
        ),
        diversity_name="distinct-2",
        quality_name="mean log-likelihood under the aligned model",
        calibration_prompts=50,
        report_prompts=60,
        confidence=0.95,
        against_random=(
            cards.Comparison(
                "RAND",
                0.3,
                0.29,
                cards.Estimate(0.012, -0.01, 0.034),
                cards.Estimate(0.2, 0.1, 0.3),
            ),
        ),
        beats_random=False,
        config_digest="cd" * 32,
        contact="ops@example.org",
        presets=(cards.Preset("balanced", 0.3, 0.31), cards.Preset("wild", 0.5, "always")),
        rule="The most diverse share that keeps 75 % of the aligned model quality (95 % interval).",
        notes=("The base alone scores no worse: presets follow diversity only.",),
    )
