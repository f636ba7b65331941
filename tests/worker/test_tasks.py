"""Every task in a real, locked child, on members of the tiny family."""

import hashlib
import json
import os
import shutil
import signal
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from safetensors.torch import load_file, save_file

from bot.errors import Broken
from bot.executors import ChildDied, ChildFailed, LocalExecutor
from bot.rounds import keep_round
from bot.suites import load_suite
from bot.worker import models
from bot.worker.calibrate import ruler, take_end_ids
from bot.worker.jobs import Build, Calibrate, Evaluate, Examine, Member, Picture, Trials
from bot.worker.prompts import Unusable, read_prompts
from bot.zoo import PROMPTS, quality, write_member
from route.rounds import Ruler

pytestmark = pytest.mark.filterwarnings("default")

SHARES = (0.4, 0.3, 0.3)
NAMES = ("arith", "string", "struct")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    for name in ("base", "aligned", *NAMES):
        write_member(name, folder / name)
    return folder


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """The shipped suite, cut to four categories of 60 items, the last as choices."""
    shipped, folder = load_suite("tiny_skills"), tmp_path_factory.mktemp("suite")
    about = {"name": "short", "version": "1", "licence": shipped.licence, "source": shipped.source}
    entries = []
    for number, category in enumerate(shipped.categories[:4]):
        kind = "choice" if number == 3 else "exact"
        rows = []
        for i, item in enumerate(category.items[:60]):
            row = {"id": item.id, "cluster": item.cluster, "prompt": item.prompt}
            other = category.items[i + 1].answer + "x"
            row |= (
                {"choices": [other, item.answer], "gold": 1}
                if kind == "choice"
                else {"answer": item.answer}
            )
            rows.append(json.dumps(row))
        (folder / f"{category.name}.jsonl").write_text("\n".join(rows))
        entries.append({"name": category.name, "kind": kind, "items": f"{category.name}.jsonl"})
    (folder / "suite.json").write_text(json.dumps(about | {"categories": entries}))
    return folder


@pytest.fixture(scope="module")
def executor(tmp_path_factory):
    with LocalExecutor(tmp_path_factory.mktemp("data"), deadline=300, warm=True) as executor:
        yield executor


def evaluate(executor, zoo, suite, weights, split="tune", categories=None):
    job = Evaluate(
        weights=weights,
        config=zoo / "base",
        suite=str(suite),
        seed=1,
        shares=SHARES,
        split=split,
        categories=categories,
    )
    with executor.start(job) as child:
        return {str(line["category"]): line for line in child.lines()}


def trials(zoo, suite, split="tune"):
    return Trials(
        members=tuple(zoo / name for name in NAMES),
        config=zoo / "base",
        suite=str(suite),
        seed=1,
        shares=SHARES,
        split=split,
    )


def built(executor, zoo, out, weights):
    members = tuple(Member(zoo / n, w) for n, w in zip(NAMES, weights, strict=True))
    with executor.start(Build(members=members, base=zoo / "base", out=out)) as child:
        return list(child.lines())


def test_trials_answer_what_evaluations_of_files_answer(executor, zoo, suite, tmp_path):
    alone = {name: evaluate(executor, zoo, suite, zoo / name) for name in NAMES}
    weights = ["1/2", "3/10", "1/5"]
    *progress, last = built(executor, zoo, tmp_path / "soup", weights)
    assert progress[-1]["progress"] == progress[-1]["total"]
    written = tmp_path / "soup" / "model.safetensors"
    digest = hashlib.sha256(written.read_bytes()).hexdigest()
    assert last["files"] == {
        "model.safetensors": {"sha256": digest, "size": written.stat().st_size}
    }
    soup = evaluate(executor, zoo, suite, tmp_path / "soup")
    sizes = {name: line["n"] for name, line in soup.items()}

    with executor.start(trials(zoo, suite)) as child:
        assert child.receive() == {"ready": True, "items": sizes}
        for place, name in enumerate(NAMES):
            corner = ["1" if n == place else "0" for n in range(3)]
            answer = child.ask({"trial": name, "weights": corner})
            assert answer == {"trial": name, "outcomes": outcomes(alone[name])}
        answer = child.ask({"trial": "s", "weights": weights})
        assert answer["outcomes"] == outcomes(soup)
        first = next(iter(sizes))
        answer = child.ask({"trial": "p", "weights": weights, "items": {first: [0, 2]}})
        part = answer["outcomes"].pop(first)
        assert part[1] == "-"
        assert set(part[3:]) == {"-"}
        assert all(set(marks) == {"-"} for marks in answer["outcomes"].values())
    assert len({json.dumps(outcomes(lines)) for lines in (*alone.values(), soup)}) == 4


def outcomes(lines):
    return {name: line["outcomes"] for name, line in lines.items()}


def test_evaluate_tells_each_category_of_the_split_asked_for(executor, zoo, suite):
    every = evaluate(executor, zoo, suite, zoo / "arith", split="report")
    names = [c.name for c in load_suite(suite).categories]
    assert list(every) == names
    for line in every.values():
        marks = line["outcomes"]
        assert line["n"] == len(marks)
        assert line["value"] == pytest.approx(marks.count("1") / len(marks))
    some = evaluate(executor, zoo, suite, zoo / "arith", "report", (names[2], names[0]))
    assert list(some) == [names[0], names[2]]
    assert some[names[0]] == every[names[0]]
    assert every[names[0]]["value"] > 0.5  # sums are what this member was tuned on


def test_what_a_strangers_folder_says_is_never_asked(executor, zoo, suite, tmp_path):
    """Config and tokenizer beside the weights are lies and bait; the scores stay the same."""
    (tmp_path / "model.safetensors").write_bytes((zoo / "arith/model.safetensors").read_bytes())
    bait = tmp_path / "touched"
    code = f"open({str(bait)!r}, 'w')\nraise SystemExit"
    (tmp_path / "modeling_bait.py").write_text(code)
    (tmp_path / "tokenizer.json").write_text("{}")
    config = json.loads((zoo / "base/config.json").read_text())
    config |= {"auto_map": {"AutoModelForCausalLM": "modeling_bait.Bait"}, "rope_theta": 3.0}
    (tmp_path / "config.json").write_text(json.dumps(config))
    category = (load_suite(suite).categories[0].name,)
    honest = evaluate(executor, zoo, suite, zoo / "arith", categories=category)
    with pytest.raises(ChildFailed) as refused:  # the engine compares the configurations
        evaluate(executor, zoo, suite, tmp_path, categories=category)
    assert refused.value.code in ("needs-code", "config-mismatch")
    (tmp_path / "config.json").unlink()
    assert evaluate(executor, zoo, suite, tmp_path, categories=category) == honest
    assert not bait.exists()


def test_examine_and_the_reason_of_a_refusal(executor, zoo, tmp_path):
    with executor.start(Examine(zoo / "arith", zoo / "base")) as child:
        [health] = child.lines()
    assert health["non_finite"] == []
    assert 0 < health["delta_norm"] < 1
    assert len(health["fingerprint"]) == 64

    tensors = load_file(zoo / "arith" / "model.safetensors")
    name = min(tensors)
    save_file(tensors | {name: tensors[name][:-1].contiguous()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((zoo / "base" / "config.json").read_bytes())
    with (
        executor.start(Examine(tmp_path, zoo / "base")) as child,
        pytest.raises(ChildFailed) as caught,
    ):
        child.receive()
    assert caught.value.code == "wrong-shapes"
    assert name in caught.value.subject


def test_faults_of_a_job_are_told_by_code(executor, zoo, suite):
    with pytest.raises(ChildFailed, match="no category 'gone'") as caught:
        evaluate(executor, zoo, suite, zoo / "arith", categories=("gone",))
    assert caught.value.code == "suite"
    with executor.start(trials(zoo, suite)) as child:
        child.receive()
        with pytest.raises(ChildFailed, match="needs 3 weights") as caught:
            child.ask({"trial": "1", "weights": ["1"]})
    assert caught.value.code == "protocol"
    with executor.start(trials(zoo, suite)) as child:
        child.receive()
        with pytest.raises(ChildFailed) as caught:
            child.ask({"trial": "1", "weights": ["1/2", "1/2", "1/2"]})
    assert caught.value.code == "weights"


def test_killed_in_the_middle(executor, zoo, suite):
    with executor.start(trials(zoo, suite)) as child:
        child.receive()
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(ChildDied):
            child.ask({"trial": "1", "weights": ["1", "0", "0"]})


def test_a_model_is_its_files(zoo):
    """Loaded by the soup's kernel, every parameter equals what the file says."""
    model = models.load_model(zoo / "base", zoo / "arith")
    state = model.state_dict()
    for name, tensor in load_file(zoo / "arith" / "model.safetensors").items():
        assert torch.equal(state[name], tensor)
    live = models.live_soup(model, [zoo / "arith", zoo / "string"])
    live.write([Fraction(0), Fraction(1)])
    for name, tensor in load_file(zoo / "string" / "model.safetensors").items():
        assert torch.equal(state[name], tensor)


def calibration(zoo, folder):
    return Calibrate(
        base=zoo / "base",
        base_pin="tiny/base@" + "a" * 40,
        aligned=zoo / "aligned",
        aligned_pin="tiny/aligned@" + "b" * 40,
        config=zoo / "aligned",
        prompts=folder / "prompts.jsonl",
        router="P",
        shares=(0.2, 0.4),
        preset="safe",
        seed=0,
        prompt_formats=("same", "plain", "chat"),
        samples_per_prompt=2,
        max_new_tokens=6,
        temperatures=(1.0,),
        min_p_temperatures=(2.0,),
        rounds=folder / "rounds",
    )


def test_calibrate_and_its_picture(executor, zoo, tmp_path):
    rows = [json.loads(line) for line in PROMPTS.read_text().splitlines()]
    few = [row for split in ("calibrate", "held-out") for row in _first(rows, split, 4)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(json.dumps(row) for row in few))
    job = calibration(zoo, tmp_path)
    with executor.start(job) as child:
        *lines, last = child.lines()
    progress = [line["progress"] for line in lines if "progress" in line]
    assert progress == list(range(1, len(progress) + 1))
    kept = [line for line in lines if "round" in line]
    assert len(kept) == len(progress)
    config = json.loads(last["config"])
    assert [one["prompt_format"] for one in config["calibration"]["formats"]] == ["same", "plain"]
    assert config["router"] == "p"
    assert config["preset"] == "safe"
    assert config["threshold"] == config["presets"]["safe"]["threshold"]
    assert config["base"]["repo"] == "tiny/base"
    assert config["base"]["sha"] == "a" * 40
    with executor.start(Picture("router", config, tmp_path / "router.png")) as child:
        assert list(child.lines()) == [{"picture": "router.png"}]
    assert (tmp_path / "router.png").read_bytes().startswith(b"\x89PNG")

    for line in kept[:-3]:  # as if the first child had been killed before the last three
        keep_round(tmp_path / "rounds", line)
    (tmp_path / "rounds" / f"{kept[0]['round']}.json").write_text("half a rec")
    with executor.start(job) as child:
        *lines, again = child.lines()
    new = [line["round"] for line in lines if "round" in line]
    assert new == [kept[0]["round"], *(line["round"] for line in kept[-3:])]
    assert again == last


def test_end_tokens_come_from_the_trusted_generation_settings(zoo, tmp_path):
    given = {"eos_token_id": [2, 5], "pad_token_id": 5, "temperature": 9.0, "top_k": 3}
    model = models.load_model(zoo / "aligned", zoo / "aligned")
    before = model.generation_config.to_dict()
    take_end_ids(model, tmp_path)
    assert model.generation_config.to_dict() == before
    (tmp_path / "generation_config.json").write_text(json.dumps(given))
    take_end_ids(model, tmp_path)
    after = model.generation_config.to_dict()
    assert after == before | {"eos_token_id": [2, 5], "pad_token_id": 5}


def test_scorer_and_encoder_are_found_by_name(zoo, tmp_path):
    job = replace(
        calibration(zoo, tmp_path), quality="bot.zoo.quality:scores", encoder="json:dumps"
    )
    found = ruler(job)
    assert (found.quality, found.quality_name) == (quality.scores, "bot.zoo.quality:scores")
    assert (found.encoder, found.encoder_name) == (json.dumps, "json:dumps")
    assert ruler(calibration(zoo, tmp_path)) == Ruler()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["{"], "line 1: needs a JSON object"),
        (['{"prompt": "a", "split": "calibrate"}', '["b"]'], "line 2: needs a JSON object"),
        (['{"prompt": " ", "split": "calibrate"}'], "line 1: needs"),
        (['{"prompt": "a", "split": "test"}'], "line 1: needs"),
        (['{"prompt": "a", "split": "calibrate"}'], "both splits"),
        (
            [f'{{"prompt": "a", "split": "{one}"}}' for one in ("held-out", "calibrate")],
            "'a' is in",
        ),
    ],
)
def test_prompts_that_cannot_be_used_are_told(tmp_path, rows, said):
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows))
    with pytest.raises(Unusable, match=said) as raised:
        read_prompts(tmp_path / "prompts.jsonl")
    assert raised.value.setting == "prompts"


@pytest.mark.parametrize("name", ["no.such.module:scores", "bot.zoo.quality:none", "json", ":x"])
def test_a_scorer_that_is_not_there_is_told(zoo, tmp_path, name):
    with pytest.raises(Unusable, match=name) as raised:
        ruler(replace(calibration(zoo, tmp_path), quality=name))
    assert raised.value.setting == "quality"


def test_a_pair_of_different_vocabularies_is_told(executor, zoo, tmp_path):
    """By the base's own tokenizer: the same number of ids, two of them exchanged."""
    shutil.copytree(zoo / "base", tmp_path / "base")
    file = tmp_path / "base" / "tokenizer.json"
    tokens = json.loads(file.read_text())
    vocabulary = tokens["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    file.write_text(json.dumps(tokens))
    rows = [
        {"prompt": one, "split": split} for one, split in (("1", "calibrate"), ("2", "held-out"))
    ]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    job = replace(calibration(zoo, tmp_path), base_config=tmp_path / "base")
    with executor.start(job) as child, pytest.raises(ChildFailed, match="'a' for") as raised:
        list(child.lines())
    assert (raised.value.code, raised.value.subject) == ("setting", "aligned")


def test_a_round_becomes_a_file_only_under_a_digest(tmp_path):
    with pytest.raises(Broken, match="names a round"):
        keep_round(tmp_path, {"round": "../" + "a" * 61, "record": {}})
    assert not list(tmp_path.iterdir())


def _first(rows, split, count):
    return [row for row in rows if row["split"] == split][:count]
