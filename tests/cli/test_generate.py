"""`bot generate` as a person uses it: folders and repositories in, texts or a reason out."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace

import pytest
from huggingface_hub import HfApi
from rich.console import Console
from transformers import AutoTokenizer
from typer.testing import CliRunner

from bot.cli import app
from bot.localhub import LocalHub
from bot.zoo import write_member
from route.config import Pin, RouterConfig, VocabularyPin
from route.figures import Calibration, Estimate, Setting
from route.rules import Router
from route.vocab import id_to_token, token_digest

pytestmark = pytest.mark.filterwarnings("default")
PAIR = ("--base", "storybase", "--aligned", "aligned", "--prompt", "Tell me about a fox.")
SHORT = ("--max-new-tokens", 16, "--threads", 1)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    for name in ("storybase", "aligned"):
        write_member(name, folder / name)
    return folder


@pytest.fixture
def invoke(zoo, tmp_path, monkeypatch):
    """Run a command line in the folder of the models; returns what click found."""
    monkeypatch.chdir(zoo)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*words, code=0):
        found = CliRunner().invoke(app, ["generate", *map(str, words)])
        assert found.exit_code == code, found.output or found.exception
        return found

    return run


@pytest.fixture
def bot(invoke):
    return lambda *words, code=0: json.loads(invoke(*words, "--json", code=code).stdout)


def router_json(zoo, router=Router.P_PUNC, threshold=0.2, curve=()):
    """A router for the pair by folder, with a curve of (target share, threshold)."""
    tokens = id_to_token(AutoTokenizer.from_pretrained(zoo / "aligned"))
    size = max(tokens) + 1
    at = Estimate(0.0, 0.0, 0.0)
    settings = tuple(
        Setting("s", "router", 1.0, at, at, at, at, 0.1, 2.0, {}, router, threshold, target)
        for target, threshold in curve
    )
    config = RouterConfig(
        router=router,
        threshold=threshold,
        base=Pin("tiny/storybase"),
        aligned=Pin("tiny/aligned"),
        vocabulary=VocabularyPin(size, token_digest(tokens, size)),
    )
    if curve:
        report = Calibration(1, 1, 1, 1, 0, "d", "q", "r", settings, (), (), None)
        config = replace(config, calibration=report)
    return config.to_json()


def test_every_sample_says_who_wrote_what(bot, zoo):
    found = bot(*PAIR, *SHORT, "-n", 5, "--base-share", 0.2, "--seed", 3)
    tokenizer = AutoTokenizer.from_pretrained(zoo / "aligned")
    assert len(found["samples"]) == 5
    assert found["router"] == "p-punc"
    assert found["execution"] == "block"
    for sample in found["samples"]:
        ids = [token["id"] for token in sample["tokens"]]
        assert sample["text"] == tokenizer.decode(ids, skip_special_tokens=True)
        shown = "".join(token["text"] for token in sample["tokens"])
        assert shown.replace("<eos>", "") == sample["text"]
        by_base = [token["by"] == "base" for token in sample["tokens"]]
        assert {token["by"] for token in sample["tokens"]} <= {"base", "aligned"}
        assert sample["base_share"] == pytest.approx(sum(by_base) / len(ids), abs=1e-6)
        assert set(sample["forwards"]) == {"base", "aligned"}
        assert 0 < sample["forwards"]["aligned"] <= found["forwards"]["aligned"]
    assert 0 < found["base_share"] < 0.5
    fewer = bot(*PAIR, *SHORT, "-n", 2, "--base-share", 0.2, "--seed", 3)
    assert fewer["threshold"] == found["threshold"]
    for one, other in zip(fewer["samples"], found["samples"][:2], strict=True):
        assert one["tokens"] == other["tokens"]  # a text does not depend on how many there are


def test_executions_and_greedy_text(bot):
    """Greedy routed text is the same by every execution; forwards are counted for each."""
    greedy = (*PAIR, *SHORT, "-n", 2, "--temperature", 0, "--router", "punc")
    eager, lazy, block = (bot(*greedy, "--execution", way) for way in ("eager", "lazy", "block"))
    one, other = eager["samples"]
    assert eager["threshold"] is None
    assert one["text"] == other["text"]
    assert {sample["text"] for sample in lazy["samples"] + block["samples"]} == {one["text"]}
    assert one["forwards"] == {"base": len(one["tokens"]), "aligned": len(one["tokens"])}
    assert lazy["forwards"]["aligned"] < eager["forwards"]["aligned"]


def test_without_json_the_bases_words_are_in_colour(invoke, monkeypatch):
    monkeypatch.setattr(
        sys.modules["bot.cli.generate"], "console", Console(force_terminal=True, width=100)
    )
    plain = invoke(*PAIR, *SHORT, "--router", "rand", "--base-share", 0.5, "-n", 2).stdout
    assert "\x1b[1;36m" in plain
    assert "2: " in plain
    assert "router rand, threshold 0." in plain


def test_a_share_is_read_off_the_curve_or_tuned(bot, zoo, tmp_path):
    file = tmp_path / "router.json"
    file.write_text(router_json(zoo, curve=[(0.1, 0.2), (0.2, 0.4), (0.3, "always")]))
    given = ("--config", file, *PAIR, *SHORT)
    assert bot("--config", tmp_path, *given[2:])["threshold"] == 0.2
    assert bot(*given, "--base-share", 0.25)["threshold"] == 0.7
    file.write_text(router_json(zoo))
    tuned = bot(*given, "--base-share", 0.15, "-n", 16)
    assert any("tuning" in note for note in tuned["notes"])
    assert tuned["asked_share"] == pytest.approx(0.15, abs=0.08)


def test_a_share_out_of_reach_names_the_range(bot, invoke, zoo, tmp_path):
    error = bot(*PAIR, *SHORT, "--base-share", 0.95, code=1)["error"]
    assert error["code"] == "share-out-of-reach"
    assert "ask for a share in [0, 0." in error["message"]
    file = tmp_path / "router.json"
    file.write_text(router_json(zoo, curve=[(0.1, 0.2), (0.3, 0.4)]))
    refused = invoke("--config", file, *PAIR, "--base-share", 0.5, code=1)
    assert "[0.1, 0.3]" in str(refused.exception)


def test_another_vocabulary_is_refused_where_it_differs(bot, zoo, tmp_path):
    strange = tmp_path / "strange"
    shutil.copytree(zoo / "storybase", strange)
    tokenizer = json.loads((strange / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    one, two = [token for token in vocabulary if vocabulary[token] in (40, 41)]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    (strange / "tokenizer.json").write_text(json.dumps(tokenizer))
    error = bot("--base", strange, *PAIR[2:], code=1)["error"]
    assert error["code"] == "vocab-mismatch"
    assert "differ at 2 of" in error["message"]
    assert "id 40 is" in error["message"]


def test_a_model_with_code_of_its_own_is_refused(bot, zoo, tmp_path):
    strange = tmp_path / "strange"
    shutil.copytree(zoo / "storybase", strange)
    config = json.loads((strange / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}}
    (strange / "config.json").write_text(json.dumps(config))
    (strange / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    error = bot("--base", strange, *PAIR[2:], code=1)["error"]
    assert error["code"] == "needs-code"
    assert "strange: model_type 'mine'" in error["message"]
    assert not (tmp_path / "ran").exists()


def test_a_router_for_another_model_is_refused_by_its_side(bot, zoo, tmp_path):
    config = RouterConfig.from_json(router_json(zoo))
    file = tmp_path / "router.json"
    file.write_text(replace(config, aligned=Pin("tiny/x", fingerprint="0" * 64)).to_json())
    error = bot("--config", file, *PAIR, *SHORT, code=1)["error"]
    assert error["code"] == "pin-mismatch"
    assert "the aligned model is not the one" in error["message"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--router", "foo"), "'p-punc'"),
        (("-n", 0), "greater than or equal to 1"),
        (("--temperature", -1), "greater than or equal to 0"),
        (("--base-share", 1.5), "less than or equal to 1"),
        (("--execution", "fast"), "'block'"),
    ],
)
def test_options_out_of_range_say_what_is_allowed(invoke, words, said):
    stderr = invoke(*PAIR, *words, code=2).stderr
    assert said in " ".join(stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*PAIR[:4], "--prompt", " "), "nothing to answer"),
        (("--base", "nowhere", *PAIR[2:]), "neither a model folder"),
        (("--base", ".", *PAIR[2:]), "no config.json"),
        ((*PAIR, "--router", "fc", "--base-share", 0.2), "fixed base share"),
        ((*PAIR, "--preset", "wild"), "--config"),
        ((*PAIR, "--config", "nope.json"), "neither a router's file"),
        ((*PAIR, "--config", "aligned"), "no router.json"),
        ((*PAIR, "--config", "aligned/config.json"), "schema None"),
        ((*PAIR, "--config", "aligned/config.json", "--router", "p"), "leave them out"),
    ],
)
def test_wrong_usage_is_told_before_anything_starts(invoke, words, said):
    assert said in str(invoke(*words, code=1).exception)


def test_repositories_are_fetched_at_a_commit_and_nothing_of_them_runs(bot, zoo, tmp_path):
    with LocalHub(tmp_path / "hub", users={"alice": ("tiny",)}) as hub:
        api = HfApi(hub.url, hub.token("alice"))
        for name in ("storybase", "aligned"):
            api.create_repo(f"tiny/{name}")
            folder = tmp_path / name
            shutil.copytree(zoo / name, folder)
            (folder / "modeling_evil.py").write_text("raise SystemExit('ran')")
            (folder / "custom.bin").write_bytes(b"\x80\x04pickle")
            api.upload_folder(repo_id=f"tiny/{name}", folder_path=folder)
        api.create_repo("tiny/router")
        sha = api.repo_info("tiny/aligned").sha
        config = RouterConfig.from_json(router_json(zoo))
        pinned = replace(config, aligned=Pin("tiny/aligned", sha=sha)).to_json()
        api.upload_file(
            repo_id="tiny/router", path_or_fileobj=pinned.encode(), path_in_repo="router.json"
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HF_ENDPOINT", hub.url)
            found = bot(
                "--base", "tiny/storybase", "--aligned", f"tiny/aligned@{sha}",
                "--config", "tiny/router", *PAIR[4:], *SHORT,
            )  # fmt: skip
            missing = (
                CliRunner().invoke(app, ["generate", "--base", "tiny/nowhere", *PAIR[2:]]).exception
            )
    assert found["samples"][0]["text"]
    # the aligned side is known by its commit; of the base nothing is pinned
    assert [note for note in found["notes"] if "cannot tell" in note] == found["notes"]
    assert len(found["notes"]) == 1 and "the base model" in found["notes"][0]
    assert "no folder of that name" in str(missing)
    kept = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert "model.safetensors" in kept
    assert not kept & {"modeling_evil.py", "custom.bin"}
