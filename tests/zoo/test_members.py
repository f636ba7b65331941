from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bot.zoo import FIRST_DAY, MEMBERS, SECOND_ACT, card, family, report, training, write_member
from bot.zoo.family import Bench
from bot.zoo.members import SHARED, WEIGHTS
from bot.zoo.regimes import REGIMES
from merge.splits import Split

SAMPLE = 30


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def bench():
    return Bench()


@pytest.fixture(scope="module")
def recorded():
    return report.recorded_scores()


@pytest.mark.parametrize("name", MEMBERS)
def test_a_written_member_loads_as_any_repository_does(name, tmp_path):
    write_member(name, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {*SHARED, "model.safetensors"}
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.dtype == torch.bfloat16
    assert 0.5e6 < model.num_parameters() < 0.8e6
    assert model.config.vocab_size == len(AutoTokenizer.from_pretrained(tmp_path))


def test_all_weights_are_small_enough_to_commit():
    sizes = [p.stat().st_size for p in WEIGHTS.rglob("*.safetensors")]
    assert len(sizes) == len(MEMBERS)
    assert max(sizes) < 3e6
    assert sum(sizes) < 14e6


@pytest.mark.parametrize("name", ["base", *FIRST_DAY, SECOND_ACT])
def test_shipped_weights_score_as_recorded(name, bench, recorded):
    """A sample of the report split: within five binomial standard errors of the whole."""
    model = family.model_of(report.read_shipped(name))
    right = total = expected = variance = 0.0
    for category, items in bench.items[Split.REPORT].items():
        part = items[:SAMPLE]
        right += sum(training.outcomes(model, part))
        total += len(part)
        expected += recorded[name][category] * len(part)
        variance += recorded[name][category] * (1 - recorded[name][category]) * len(part)
    assert total == SAMPLE * len(recorded[name])
    assert abs(right - expected) < 5 * variance**0.5 + 1


def test_every_expert_is_best_of_its_first_day_at_its_own_skills(recorded):
    for name in (*FIRST_DAY, SECOND_ACT):
        for skill in MEMBERS[name].skills:
            rivals = [recorded[r][skill] for r in ("base", *FIRST_DAY, SECOND_ACT) if r != name]
            assert recorded[name][skill] > max(rivals)


def test_the_outcome_is_what_greedy_decoding_gives(bench):
    model = family.model_of(report.read_shipped("arith"))
    items = bench.items[Split.REPORT]["add"][:12] + bench.items[Split.REPORT]["sort"][:12]
    for item, right in zip(items, training.outcomes(model, items), strict=True):
        ids = torch.tensor([training.encode(item.prompt)])
        answer = training.encode(item.answer)
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=len(answer), do_sample=False
        )
        assert (out[0, ids.shape[1] :].tolist() == answer) == right


def test_shipped_skill_members_are_those_that_are_recorded(recorded):
    assert list(recorded) == [name for name in MEMBERS if name not in ("storybase", "aligned")]


def test_training_is_determined_by_its_seed():
    recipe = replace(REGIMES["weights"].recipes["noisy"], steps=2, items=6, texts=2)
    runs = [
        family.weights_of(training.train(training.fresh(3), recipe, seed=seed))
        for seed in ("a", "a", "b")
    ]
    assert all(torch.equal(runs[0][n], runs[1][n]) for n in runs[0])
    assert any(not torch.equal(runs[0][n], runs[2][n]) for n in runs[0])


def test_a_corner_of_a_blend_is_that_member():
    one, two = (report.read_shipped(name) for name in ("arith", "string"))
    corner = family.blend([one, two], [Fraction(1), Fraction(0)])
    half = family.blend([one, two], [Fraction(1, 2), Fraction(1, 2)])
    assert all(torch.equal(corner[n], one[n]) for n in one)
    assert any(not torch.equal(half[n], one[n]) for n in one)


def test_weights_of_another_family_are_refused():
    weights = dict(report.read_shipped("base"))
    weights["model.stranger"] = weights.pop("model.norm.weight")
    with pytest.raises(ValueError, match="not weights of this family"):
        family.model_of(weights)


def test_cards_name_their_parent():
    assert "base_model:" not in card("base", "tiny/base")
    assert 'base_model: "tiny/base"\nbase_model_relation: finetune' in card("arith", "tiny/base")
    assert "license: apache-2.0" in card("noisy", "tiny/base")
    with pytest.raises(KeyError):
        card("stranger", "tiny/base")
