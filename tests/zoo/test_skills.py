from itertools import islice
from random import Random

import pytest

from bot.suites import BUILTIN, load_suite
from bot.zoo import suite
from bot.zoo.skills import SKILLS, held_out, stream
from merge.splits import Split

STREAM = 3000


@pytest.fixture(scope="module")
def benchmark():
    return load_suite("tiny_skills")


def test_training_and_evaluation_share_no_cluster(benchmark):
    for category in benchmark.categories:
        asked = {item.cluster for item in category.items}
        assert len(asked) == len(category.items) == suite.NEWEST.items
        assert all(map(held_out, asked))
        for seed in (0, 1):
            draws = islice(stream(category.name, Random(seed), evaluation=False), STREAM)
            assert not any(held_out(item.cluster) for item in draws)


def test_no_prompt_of_the_suite_is_ever_trained_on(benchmark):
    prompts = {item.prompt for category in benchmark.categories for item in category.items}
    for skill in SKILLS:
        draws = islice(stream(skill, Random(2), evaluation=False), STREAM)
        assert not prompts & {item.prompt for item in draws}


def test_editions_share_no_cluster(benchmark):
    """Of anything: a word of one edition is not even sorted in the other."""
    clusters = [
        {item.cluster for category in suite.build(version).categories for item in category.items}
        for version in suite.VERSIONS
    ]
    assert benchmark.version == suite.VERSIONS[-1]
    assert sum(map(len, clusters)) == len(set.union(*clusters)) > 6000


def test_training_and_the_first_edition_share_no_cluster():
    for category in suite.build("1").categories:
        assert all(held_out(item.cluster) for item in category.items)


def test_there_is_no_edition_of_another_name():
    with pytest.raises(ValueError, match="no edition '3'"):
        suite.build("3")


def test_splits_share_no_cluster_and_are_large_enough(benchmark):
    splits = benchmark.splits(seed=0)
    by_split = {split: splits.clusters(split) for split in Split}
    assert not by_split[Split.SELECT] & by_split[Split.TUNE]
    assert not by_split[Split.SELECT] & by_split[Split.REPORT]
    assert not by_split[Split.TUNE] & by_split[Split.REPORT]
    for category in benchmark.categories:
        for split in Split:
            assert sum(item.cluster in by_split[split] for item in category.items) >= 145


def test_skills_about_the_same_thing_share_clusters(benchmark):
    clusters = {c.name: [item.cluster for item in c.items] for c in benchmark.categories}
    assert clusters["add"] == clusters["sub"]
    assert clusters["rev"] == clusters["sort"]


def test_the_committed_suite_is_what_the_code_makes(tmp_path):
    suite.write_suite(tmp_path)
    for file in (BUILTIN / "tiny_skills").iterdir():
        assert file.read_bytes() == (tmp_path / file.name).read_bytes()
    assert load_suite(tmp_path).digest == suite.build().digest


def test_one_seed_gives_one_stream():
    for skill in SKILLS:
        one, two, other = (
            list(islice(stream(skill, Random(seed), evaluation=True), 50)) for seed in (7, 7, 8)
        )
        assert one == two != other


def _solve_call(prompt: str) -> str:
    name, _, inside = prompt.removeprefix("call:").removesuffix(")=").partition("(")
    values = [v if v in "0123456789" else f'"{v}"' for v in inside.split(",")]
    return f'{{"{name}":[{",".join(values)}]}};'


def _solve_close(prompt: str) -> str:
    open_ = ""
    for char in prompt.removeprefix("close:").removesuffix("="):
        open_ = open_ + char if char in "([{<" else open_[:-1]
    return "".join(")]}>"["([{<".index(char)] for char in reversed(open_)) + ";"


def _solve_depth(prompt: str) -> str:
    text = prompt.removeprefix("depth:").removesuffix("=")
    return f"{max(sum(1 if c in '([{<' else -1 for c in text[:i]) for i in range(len(text)))};"


def _solve_args(prompt: str) -> str:
    given = prompt.removeprefix("args:").removesuffix(">").split(",")
    return ",".join(f"{key}={value}" for key, value in given) + ";"


SOLVERS = {
    "add": lambda p: f"{sum(map(int, p.removesuffix('=').split('+')))};",
    "sub": lambda p: f"{int(p.split('-')[0]) - int(p.removesuffix('=').split('-')[1])};",
    "rev": lambda p: p.removeprefix("rev:").removesuffix("=")[::-1] + ";",
    "sort": lambda p: "".join(sorted(p.removeprefix("sort:").removesuffix("="))) + ";",
    "close": _solve_close,
    "depth": _solve_depth,
    "args": _solve_args,
    "call": _solve_call,
}


def test_every_answer_follows_from_its_prompt_by_the_rule(benchmark):
    assert set(SOLVERS) == {category.name for category in benchmark.categories}
    for category in benchmark.categories:
        for item in category.items:
            assert SOLVERS[category.name](item.prompt) == item.answer
