import pytest
import torch

from bot.zoo import pair, quality, report, stories, suite
from bot.zoo.family import model_of


@pytest.fixture(scope="module")
def texts():
    """Name to prompt to texts; six prompts are enough for gaps as wide as the recorded ones."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return {
        name: {
            prompt: pair.sample(model, pair.asked(name, prompt))
            for prompt in suite.prompts("held-out")[:6]
        }
        for name in (pair.BASE, pair.ALIGNED)
        for model in [model_of(report.read_shipped(name))]
    }


def means(texts, measure):
    found = [measure(prompt, text) for prompt, written in texts.items() for text in written]
    return sum(found) / len(found)


def test_the_aligned_model_answers_what_it_is_asked(texts):
    on_topic = {n: means(t, lambda p, x: quality.grade(p, x).topic) for n, t in texts.items()}
    assert on_topic["aligned"] > 0.7
    assert on_topic["storybase"] < 0.5


def test_the_pair_trades_diversity_for_quality(texts):
    worth = {name: means(written, quality.quality) for name, written in texts.items()}
    different = {
        name: sum(pair.distinct(pair.cut(w, pair.WORDS), 2) for w in written.values()) / 6
        for name, written in texts.items()
    }
    assert worth["aligned"] > worth["storybase"] + 0.2
    assert different["storybase"] > different["aligned"] + 0.2


def test_each_member_is_asked_in_its_own_format():
    assert pair.asked("aligned", "Describe a red fox.") == stories.chat("Describe a red fox.")
    assert pair.asked("storybase", "Describe a red fox.") == "Describe a red fox.\n\n"
