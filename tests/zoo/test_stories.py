import json
from itertools import islice
from random import Random

import pytest

from bot.zoo import PROMPTS, quality, stories, suite


@pytest.fixture(scope="module")
def prompts():
    return [json.loads(line) for line in PROMPTS.read_text().splitlines()]


def test_routing_prompts_are_disjoint_and_enough(prompts):
    texts = {split: {p["prompt"] for p in prompts if p["split"] == split}
             for split in ("calibrate", "held-out")}  # fmt: skip
    assert len(texts["calibrate"]) >= 60
    assert len(texts["held-out"]) >= 40
    assert not texts["calibrate"] & texts["held-out"]
    assert len(prompts) == sum(map(len, texts.values()))


def test_routing_prompts_are_never_trained_on(prompts):
    asked = {p["prompt"] for p in prompts}
    assert all(map(stories.held_out, asked))
    for kind in ("broad", "tidy"):
        for silent, spoken in islice(stories.documents(kind, Random(0)), 4000):
            assert not any(text in silent + spoken for text in asked)


def test_the_committed_prompts_are_what_the_code_makes(tmp_path):
    suite.write_prompts(tmp_path / "prompts.jsonl")
    assert (tmp_path / "prompts.jsonl").read_text() == PROMPTS.read_text()


def test_editions_share_no_prompt(prompts):
    texts = [suite.prompts(s, v) for v in suite.VERSIONS for s in ("calibrate", "held-out")]
    assert sum(map(len, texts)) == len(set().union(*texts)) == 240
    assert [p["prompt"] for p in prompts] == [*texts[-2], *texts[-1]]


def test_one_seed_gives_the_same_documents():
    for kind in ("broad", "tidy"):
        one, two, other = (
            list(islice(stories.documents(kind, Random(seed)), 20)) for seed in (3, 3, 4)
        )
        assert one == two != other


def test_tidy_answers_are_perfect_and_broad_ones_are_not():
    tidy, broad = [], []
    for asked in islice(stories.prompts(Random(5), evaluation=True), 400):
        rng = Random(asked.text)
        tidy.append(quality.quality(asked.text, stories.tidy_text(rng, asked)))
        broad.append(quality.quality(asked.text, stories.broad_text(rng, asked.topic)))
    assert min(tidy) == 1.0
    assert 0.3 < sum(broad) / len(broad) < 0.9


def test_a_prompt_names_the_topic_that_the_checker_reads():
    for asked in islice(stories.prompts(Random(6), evaluation=True), 300):
        assert set(quality.topic(asked.text)) == set(asked.topic)
