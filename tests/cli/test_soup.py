"""`bot soup` as a person uses it: folders and repositories in, one folder or a reason out."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import CommitOperationAdd, HfApi
from safetensors.numpy import save_file
from safetensors.torch import load_file
from typer.testing import CliRunner

from bot.cli import app
from bot.cli.rooms import working_room
from bot.errors import Misconfigured
from bot.localhub import LocalHub
from bot.zoo import write_member
from merge.definition import blend, decode, encode
from merge.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("default")
SHARES = {"arith": Fraction(2, 5), "string": Fraction(1, 7), "struct": Fraction(16, 35)}
UP = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    for name in ("base", *SHARES):
        write_member(name, folder / name)
    return folder


@pytest.fixture
def bot(zoo, tmp_path, monkeypatch):
    """Run a command line in the folder of the members; returns (exit code, standard output)."""
    monkeypatch.chdir(zoo)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*words, code=0):
        found = CliRunner().invoke(app, ["soup", *map(str, words)])
        assert found.exit_code == code, found.output or found.exception
        return json.loads(found.stdout) if "--json" in words else found.stdout

    return run


def members():
    return [f"{name}={share}" for name, share in SHARES.items()]


def raw(folder):
    state = load_file(folder / "model.safetensors")
    return {name: x.view(-1).view(torch.uint8).numpy().tobytes() for name, x in state.items()}


def on_disk(folder):
    return {
        p.name: {"sha256": hashlib.sha256(p.read_bytes()).hexdigest(), "size": p.stat().st_size}
        for p in folder.iterdir()
    }


def test_folders_become_a_folder_that_can_be_made_again(bot, zoo, tmp_path):
    told = bot(*members(), "--base", "base", "--out", tmp_path / "new/soup", "--json")
    out = tmp_path / "new/soup"

    found = raw(out)
    states = [raw(zoo / name) for name in SHARES]  # two or three terms of one size: any order
    for name, data in found.items():
        terms = [decode(state[name], "BF16") for state in states]
        whole = [int(share * 35) for share in SHARES.values()]
        assert data == encode(blend(terms, whole, 35), "BF16"), name

    assert told["files"] == on_disk(out)
    assert {"plan", "digests", "merge", "hash", "sync", "verify"} <= set(told["seconds"])
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (out / name).read_bytes() == (zoo / "base" / name).read_bytes()
    recipe = Recipe.from_json((out / "recipe.json").read_text())
    assert recipe.digest == told["recipe_digest"]
    assert {m.repo: m.weight for m in recipe.members} == SHARES

    again = bot("--recipe", out / "recipe.json", "--out", tmp_path / "c", "--json")
    kit = bot("--recipe", out / "mergekit.yaml", "--out", tmp_path / "d", "--json", "--no-hash")
    assert again["recipe_digest"] == told["recipe_digest"]
    assert kit["recipe_digest"] is None
    assert not (tmp_path / "d/recipe.json").exists()
    for other in "cd":
        one, two = (f / "model.safetensors" for f in (out, tmp_path / other))
        assert one.read_bytes() == two.read_bytes()


def test_the_first_member_stands_in_for_a_base_and_the_output_says_so(bot, tmp_path):
    (tmp_path / "soup").mkdir()  # an empty folder is as good as none
    told = bot("arith=0.5", "string=0.5", "--out", tmp_path / "soup", "--dtype", "float32")
    assert "base      arith, the first full checkpoint" in told
    config = json.loads((tmp_path / "soup/config.json").read_text())
    assert config["dtype"] == "float32"
    assert {x.dtype for x in load_file(tmp_path / "soup/model.safetensors").values()} == {
        torch.float32
    }
    kit = yaml.safe_load((tmp_path / "soup/mergekit.yaml").read_text())
    assert (kit["base_model"], kit["dtype"]) == ("arith", "float32")
    assert {m["model"]: m["parameters"]["weight"] for m in kit["models"]} == {
        "arith": 1, "string": 1,
    }  # fmt: skip


def test_a_plan_names_everything_and_writes_nothing(bot, zoo, tmp_path):
    plan = bot(*members(), "--out", tmp_path / "soup", "--plan", "--json")["plan"]
    state = load_file(zoo / "arith/model.safetensors")
    assert {t["name"]: (t["shape"], t["dtype"]) for t in plan["tensors"]} == {
        name: (list(x.shape), "BF16") for name, x in state.items()
    }
    assert plan["output_bytes"] == (zoo / "arith/model.safetensors").stat().st_size
    assert plan["input_bytes"] == 3 * sum(x.nbytes for x in state.values())
    assert plan["ties"] == {"lm_head.weight": "model.embed_tokens.weight"}
    assert plan["free_bytes"] > 0
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]
    told = bot(*members(), "--plan")
    assert f"BF16  mix   {UP} [352, 128]" in told


def test_all_refusals_come_at_once_with_code_culprit_and_remedy(bot, zoo, tmp_path):
    state = load_file(zoo / "string/model.safetensors")
    write_member("string", tmp_path / "bad")
    (tmp_path / "bad/model.safetensors").unlink()
    turned = {n: x.float().numpy() for n, x in state.items()}
    turned[UP] = turned[UP].T.copy()
    save_file(turned, tmp_path / "bad/model.safetensors")
    config = json.loads((zoo / "string/config.json").read_text())
    (tmp_path / "bad/config.json").write_text(json.dumps({**config, "hidden_act": "gelu"}))
    asked = ["arith=0.5", f"{tmp_path}/bad=0.4", "nowhere=0.2"]
    found = bot(*asked, "--out", tmp_path / "soup", "--json", code=1)["refusals"]
    assert [(r["code"], r["subject"]) for r in found] == [
        ("weights", "sum"),
        ("no-safetensors", str(zoo / "nowhere")),
        ("wrong-shapes", f"bad: {UP}"),
        ("config-mismatch", "bad: hidden_act"),
    ]
    assert all(r["detail"] and r["remedy"] for r in found)
    told = bot(*asked, "--plan", code=1)
    assert told.count("refused: ") == 4
    assert not (tmp_path / "soup").exists()


def test_what_only_the_bytes_show_is_refused_and_leaves_nothing(bot, zoo, tmp_path):
    for name in ("nan", "twin"):
        write_member("string", tmp_path / name)
    state = {n: x.float() for n, x in load_file(zoo / "string/model.safetensors").items()}
    state[UP][3, 4] = float("nan")
    save_file({n: x.numpy() for n, x in state.items()}, tmp_path / "nan/model.safetensors")
    for bad, code, culprit in (
        ("nan", "non-finite", f"nan: {UP}"),
        ("twin", "duplicate-member", f"string: has the content of {tmp_path}/twin"),
    ):
        asked = ["string=0.5", f"{tmp_path}/{bad}=0.5", "--out", tmp_path / "soup", "--json"]
        (refusal,) = bot(*asked, code=1)["refusals"]
        assert refusal["code"] == code
        assert f"{refusal['subject']}: {refusal['detail']}".startswith(culprit)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "nan", "twin"]


def test_negative_weights_on_request(bot, zoo, tmp_path):
    asked = ["arith=1.5", "string=-0.5", "--out", tmp_path / "soup", "--json"]
    (refusal,) = bot(*asked, code=1)["refusals"]
    assert (refusal["code"], refusal["subject"]) == ("weights", "-1/2")
    told = bot(*asked, "--allow-negative", "--no-verify")
    weights = {m["repo"]: m["weight"] for m in told["recipe"]["members"]}
    assert weights == {"arith": "3/2", "string": "-1/2"}
    one, two = (decode(raw(zoo / name)[UP], "BF16") for name in ("arith", "string"))
    assert raw(tmp_path / "soup")[UP] == encode(blend([one, two], [3, -1], 2), "BF16")


def test_a_member_that_changed_since_its_recipe_is_noticed(bot, zoo, tmp_path):
    write_member("string", tmp_path / "m")
    out = tmp_path / "soup"
    bot("arith=0.5", f"{tmp_path}/m=0.5", "--out", out, "--json", "--no-verify")
    write_member("struct", tmp_path / "other")
    (tmp_path / "other/model.safetensors").rename(tmp_path / "m/model.safetensors")
    asked = ["--recipe", out / "recipe.json", "--out", tmp_path / "again", "--json"]
    (refusal,) = bot(*asked, code=1)["refusals"]
    assert (refusal["code"], refusal["subject"]) == ("changed", "m")


def test_adapters_alone_and_beside_checkpoints(bot, zoo, tmp_path):
    lora(tmp_path / "lora", seed=1)
    lora(tmp_path / "other", seed=2)
    out = tmp_path / "soup"
    asked = [f"{tmp_path}/lora=0.5", f"{tmp_path}/other=0.3", "arith=0.2"]
    bot(*asked, "--base", "base", "--dtype", "float32", "--out", out)
    base, arith = (load_file(zoo / n / "model.safetensors")[UP].double() for n in ("base", "arith"))
    one, two = (adapted(tmp_path / n) for n in ("lora", "other"))
    exact = 0.5 * (base + one) + 0.3 * (base + two) + 0.2 * arith
    found = load_file(out / "model.safetensors")[UP]
    assert torch.allclose(found.double(), exact, rtol=2**-23, atol=0)
    kit = yaml.safe_load((out / "mergekit.yaml").read_text())
    assert {m["model"] for m in kit["models"]} == {
        f"base+{tmp_path}/lora", f"base+{tmp_path}/other", "arith",
    }  # fmt: skip
    bot("--recipe", out / "mergekit.yaml", "--out", tmp_path / "again", "--no-hash")
    same = (out / "model.safetensors").read_bytes()
    assert (tmp_path / "again/model.safetensors").read_bytes() == same
    # Two checkpoints and no base: nobody can say which of the two the adapter was trained on.
    (refusal,) = bot(*asked[:1], "arith=0.2", "string=0.3", "--plan", "--json", code=1)["refusals"]
    assert refusal["code"] == "unsupported-adapter"


def lora(folder, seed):
    draw = np.random.default_rng(seed)
    folder.mkdir()
    module = f"base_model.model.{UP.removesuffix('.weight')}"
    pair = {
        f"{module}.lora_A.weight": draw.normal(size=(4, 128)).astype("f4"),
        f"{module}.lora_B.weight": draw.normal(size=(352, 4)).astype("f4") * 0.01,
    }
    save_file({n: x.astype("f4") for n, x in pair.items()}, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "target_modules": ["up_proj"]}
    config["base_model_name_or_path"] = "tiny/base"
    (folder / "adapter_config.json").write_text(json.dumps(config))


def adapted(folder):
    a, b = sorted(load_file(folder / "adapter_model.safetensors").items())
    return 6 / 4 * (b[1].double() @ a[1].double())


@pytest.fixture
def hub(tmp_path, zoo, monkeypatch):
    with LocalHub(tmp_path / "hub", users={"alice": ("tiny",)}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        api = HfApi(endpoint=running.url, token=running.token("alice"))

        def push(name, **files):
            api.create_repo(f"tiny/{name}", exist_ok=True)
            found = {p.name: p.read_bytes() for p in (zoo / name).iterdir()} | files
            operations = [CommitOperationAdd(path, data) for path, data in found.items()]
            done = api.create_commit(f"tiny/{name}", operations, commit_message="push")
            return str(done.oid)

        yield push


def test_members_on_the_hub_are_pinned_and_only_tensors_are_taken(bot, hub, zoo, tmp_path):
    first = hub("arith", **{"modeling_evil.py": b"raise SystemExit", "pytorch_model.bin": b"x"})
    second = hub("string")
    hub("arith", **{"model.safetensors": (zoo / "struct/model.safetensors").read_bytes()})
    asked = [f"tiny/arith@{first}=0.4", "tiny/string=3/5", "--json"]

    plan = bot(*asked, "--plan")["plan"]
    assert plan["output_bytes"] == (zoo / "arith/model.safetensors").stat().st_size
    assert not (tmp_path / "cache/stockpot/models").exists()  # headers were enough

    told = bot(*asked, "--out", tmp_path / "soup")
    pins = {m["repo"]: m["sha"] for m in told["recipe"]["members"]}
    assert pins == {"tiny/arith": first, "tiny/string": second}
    models = tmp_path / "cache/stockpot/models"
    assert {p.relative_to(models).as_posix() for p in models.rglob("*.*") if p.is_file()} == {
        f"tiny--{name}@{sha}/{file}"
        for name, sha in (("arith", first), ("string", second))
        for file in ("model.safetensors", "config.json", "tokenizer.json")
    }
    bot("arith=0.4", "string=0.6", "--out", tmp_path / "local")
    same = (tmp_path / "local/model.safetensors").read_bytes()
    assert (tmp_path / "soup/model.safetensors").read_bytes() == same
    assert (tmp_path / "soup/tokenizer.json").read_bytes() == (
        zoo / "arith/tokenizer.json"
    ).read_bytes()
    again = bot("--recipe", tmp_path / "soup/recipe.json", "--out", tmp_path / "again", "--json")
    assert again["files"] == told["files"]


def test_repositories_that_cannot_be_used_are_refused_before_any_download(bot, hub, tmp_path):
    sha = hub("arith", **{"config.json": b'{"auto_map": {"AutoModel": "x.Y"}}'})
    hub("string")
    asked = ["tiny/string=0.6", "tiny/arith=0.4", "--out", tmp_path / "s", "--json"]
    (refusal, *_) = (r for r in bot(*asked, code=1)["refusals"] if r["code"] == "needs-code")
    assert refusal["subject"] == f"tiny/arith@{sha}: auto_map"
    assert not (tmp_path / "cache/stockpot/models").exists()
    assert not (tmp_path / "s").exists()


def test_a_repository_whose_values_are_refused_is_named_with_its_commit(bot, hub, zoo, tmp_path):
    state = {n: x.float() for n, x in load_file(zoo / "arith/model.safetensors").items()}
    state[UP][3, 4] = float("nan")
    save_file({n: x.numpy() for n, x in state.items()}, tmp_path / "nan.safetensors")
    sha = hub("arith", **{"model.safetensors": (tmp_path / "nan.safetensors").read_bytes()})
    hub("string")
    asked = ["tiny/string=0.6", "tiny/arith=0.4", "--out", tmp_path / "s", "--no-hash", "--json"]
    (refusal,) = bot(*asked, code=1)["refusals"]
    assert (refusal["code"], refusal["subject"]) == ("non-finite", f"tiny/arith@{sha}: {UP}")


def process(*words, command="soup", group=False, before=(), **variables):
    return subprocess.Popen(
        [*before, sys.executable, "-m", "bot", *filter(None, [command]), *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=group,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **variables},
    )  # fmt: skip


def test_exit_codes(zoo, tmp_path):
    wrong: list[tuple[int, list[object]]] = [
        (2, ["arith", "--out", tmp_path / "x"]),
        (2, ["arith=1", "--recipe", "r.json", "--out", tmp_path / "x"]),
        (1, ["arith=half", "--out", tmp_path / "x"]),
        (3, ["some/body=1", "--out", tmp_path / "x"]),
    ]
    environ = {"HF_ENDPOINT": "http://127.0.0.1:9", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    running = [process(*words, **environ) for _, words in wrong]
    for (code, words), one in zip(wrong, running, strict=True):
        out, err = one.communicate(timeout=120)
        assert one.returncode == code, (words, out, err)
        assert "Traceback" not in err
    assert not (tmp_path / "x").exists()


def test_with_json_a_failure_is_one_object_too(zoo, tmp_path):
    wrong = [(2, "misconfigured", ["soup", "arith"]), (3, "transient", ["soup", "some/body=1"])]
    sides = ["--aligned", zoo / "base", "--prompt", "Hi"]
    wrong.append((3, "transient", ["generate", "--base", "some/body", *sides]))
    running = [
        process(*words, *(["--out", tmp_path / "x"] if words[0] == "soup" else []), "--json",
                command="", HF_ENDPOINT="http://127.0.0.1:9", XDG_CACHE_HOME=str(tmp_path / "c"))
        for _, _, words in wrong
    ]  # fmt: skip
    for (code, name, words), one in zip(wrong, running, strict=True):
        out, err = one.communicate(timeout=120)
        assert one.returncode == code, (words, out, err)
        error = json.loads(out)["error"]
        assert (error["code"], bool(error["message"])) == (name, True)
        assert err == ""


def test_killed_at_any_moment_nothing_looks_finished(zoo, tmp_path, bot):
    shapes = {f"w{i}": (500, 2000) for i in range(12)}
    for seed in range(2):
        draw = np.random.default_rng(seed)
        (tmp_path / f"m{seed}").mkdir()
        state = {n: draw.normal(size=s).astype("f4") for n, s in shapes.items()}
        save_file(state, tmp_path / f"m{seed}/model.safetensors")
    out = tmp_path / "soup"
    asked = [f"{tmp_path}/m0=1/3", f"{tmp_path}/m1=2/3", "--out", out, "--threads", 1]
    draw = random.Random(0)
    for _ in range(2):
        running = process(*asked)
        while not list(tmp_path.glob(".soup*")) and running.poll() is None:
            time.sleep(0.002)
        time.sleep(draw.random() * 0.1)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        finished = out.exists()
        assert not finished or (out / "recipe.json").exists()
        if finished:
            break
    else:
        bot(*asked)
    told = json.loads((out / "recipe.json").read_text())
    assert len(told["members"]) == 2
    assert {p.name for p in tmp_path.iterdir()} == {"m0", "m1", "soup", "cache"}
    bot("arith=1", "--plan")  # the next command clears away what the killed ones worked in
    assert list((tmp_path / "cache/stockpot/work").iterdir()) == []
    one, two = (load_file(tmp_path / f"m{i}/model.safetensors") for i in range(2))
    for name, x in load_file(out / "model.safetensors").items():
        assert torch.equal(x, ((one[name].double() + 2 * two[name].double()) / 3).float())


def test_interrupted_it_says_where_the_same_command_goes_on(zoo, tmp_path, bot):
    header = {"w": {"dtype": "BF16", "shape": [50_000_000], "data_offsets": [0, 100_000_000]}}
    raw_header = json.dumps(header).encode()
    for name in "ab":  # zeros that take no disk, but for the first byte
        (tmp_path / name).mkdir()
        with open(tmp_path / name / "model.safetensors", "wb") as stream:
            stream.write(len(raw_header).to_bytes(8, "little") + raw_header + name.encode())
            stream.truncate(8 + len(raw_header) + 100_000_000)
    partial, out = tmp_path / ".soup[b].partial", tmp_path / "soup[b]"
    asked = [f"{tmp_path}/a=1/3", f"{tmp_path}/b=2/3", "--out", out]
    running = process(*asked, group=True)
    while not partial.exists():
        assert running.poll() is None, running.communicate()
        time.sleep(0.002)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    _, told = running.communicate(timeout=60)
    assert running.returncode == 130, told
    assert f"{partial} keeps what is written; the same command goes on there\n" in told
    assert "Traceback" not in told
    assert partial.exists() and not out.exists()
    bot(*asked)
    assert not partial.exists()
    assert not load_file(out / "model.safetensors")["w"][1:].any()


def test_rooms_of_the_dead_are_removed_and_those_of_the_living_are_not(tmp_path):
    with working_room(tmp_path) as one:
        (tmp_path / "work/room-dead/children").mkdir(parents=True)
        with working_room(tmp_path) as two:
            assert sorted((tmp_path / "work").iterdir()) == sorted([one, two])
        assert one.is_dir()
    assert list((tmp_path / "work").iterdir()) == []


def test_a_room_where_the_cache_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with working_room(tmp_path / "file") as room:
        assert list(room.iterdir()) == []
    assert not room.exists()


def test_a_negative_soup_is_made_again_from_its_mergekit_yaml(bot, tmp_path):
    asked = ("base=-1/4", "arith=5/4", "--base", "base", "--allow-negative", "--json")
    first = bot(*asked, "--out", tmp_path / "one")
    yaml_file = tmp_path / "one" / "mergekit.yaml"
    bot("--recipe", yaml_file, "--out", tmp_path / "no", code=1)
    again = bot("--recipe", yaml_file, "--allow-negative", "--out", tmp_path / "two", "--json")
    assert again["files"]["model.safetensors"] == first["files"]["model.safetensors"]


def test_one_long_list_of_refusals_does_not_hide_the_others(bot, zoo, tmp_path):
    strange = tmp_path / "strange"
    strange.mkdir()
    save_file({f"w{i}": np.zeros(2, np.float32) for i in range(40)}, strange / "model.safetensors")
    (strange / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    told = bot("arith=1/2", f"{strange}=1/2", "--plan", code=1)
    assert told.startswith("refused: other-architecture: strange: ")
    assert told.count("refused: wrong-tensors") == 3
    assert "more; --json lists them all" in told


def test_a_recipe_is_compared_and_that_takes_digests(bot, zoo, tmp_path):
    bot(*members(), "--out", tmp_path / "mix")
    found = CliRunner().invoke(
        app, ["soup", "--recipe", str(tmp_path / "mix/recipe.json"), "--out", "x", "--no-hash"]
    )
    assert isinstance(found.exception, Misconfigured)
    assert not (zoo / "x").exists()


def test_a_file_in_place_of_a_folder_is_wrong_usage(bot, zoo):
    found = CliRunner().invoke(app, ["soup", "arith/model.safetensors=1", "--plan"])
    assert isinstance(found.exception, Misconfigured)
    assert "give the folder" in str(found.exception)


def test_an_output_below_a_file_is_wrong_usage(tmp_path):
    (tmp_path / "file").touch()
    words = ["soup", "base=1", "--out", str(tmp_path / "file" / "out")]
    assert isinstance(CliRunner().invoke(app, words).exception, Misconfigured)


def wrong(*words):
    """What is wrong with a command line, in one sentence."""
    found = CliRunner().invoke(app, ["soup", *map(str, words)])
    assert isinstance(found.exception, Misconfigured), found.exception
    return str(found.exception)


def test_paths_that_are_too_long_are_wrong_usage(bot, tmp_path):
    deep = tmp_path.joinpath(*["o" * 200] * 30)
    for argument, *words in (
        (f"--out {tmp_path}", "base=1", "--out", deep),
        ("m" * 199, f"{'m' * 300}=1", "--plan"),
        ("d/d/d", "base=1", "--base", "d/" * 3000, "--plan"),
    ):
        told = wrong(*words)
        assert told.startswith(argument)
        assert told.endswith("File name too long; give a folder that can be opened")
        assert len(told) < 300
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]


def test_the_root_is_a_taken_output(bot):
    for more in ([], ["--plan"]):
        (refusal,) = bot("base=1", "--out", "/", "--json", *more, code=1)["refusals"]
        assert (refusal["code"], refusal["subject"]) == ("output-exists", "/")


def test_after_a_refusal_no_folder_above_the_output_is_left(bot, tmp_path):
    (tmp_path / "old").mkdir()
    write_member("string", tmp_path / "twin")
    long = tmp_path / "old/new" / ("n" * 300) / "soup"
    (refusal,) = bot("base=1", "--out", long, "--json", code=1)["refusals"]
    assert (refusal["code"], refusal["detail"]) == ("unsafe-file", "File name too long")
    assert refusal["remedy"]
    twins = ["string=0.5", f"{tmp_path}/twin=0.5"]
    for asked, code in ((twins, "duplicate-member"), (["base=1"], "unsafe-file")):
        out = tmp_path / "old/new/newer" / ("soup" if asked is twins else "s" * 255)
        (refusal,) = bot(*asked, "--out", out, "--json", code=1)["refusals"]
        assert refusal["code"] == code
    assert list((tmp_path / "old").iterdir()) == []


def test_a_folder_that_may_not_be_read_or_written_is_refused_by_name(bot, tmp_path):
    # The child has no capabilities, so this holds for root too.
    write_member("string", tmp_path / "closed")
    (tmp_path / "fixed").mkdir(0o555)
    (tmp_path / "closed").chmod(0)
    for words, culprit in (
        ([f"{tmp_path}/closed=0.5", "arith=0.5"], "closed"),
        (["arith=0.5", f"{tmp_path}/closed=0.5"], "closed"),
        (["arith=1", "--base", tmp_path / "closed"], "closed"),
        (["arith=1", "--out", tmp_path / "fixed/soup"], "fixed/.soup.partial"),
        (["arith=1", "--out", tmp_path / "fixed/new/soup"], "fixed/new"),
    ):
        asked = words if "--out" in words else [*words, "--out", tmp_path / "soup"]
        (refusal,) = bot(*asked, "--json", code=1)["refusals"]
        found = refusal["code"], refusal["subject"], refusal["detail"]
        assert found == ("unsafe-file", str(tmp_path / culprit), "Permission denied")
        assert ("write" in refusal["remedy"]) == ("--out" in words)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "closed", "fixed"]


def ordinary():
    """What a command line begins with so that closed folders are closed to it."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may read everything, and there is no setpriv to take that away")
    less = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={less}", f"--inh-caps={less}"]


def test_a_user_to_whom_folders_are_closed_is_told_so(zoo, tmp_path):
    write_member("string", tmp_path / "closed")
    (tmp_path / "closed/within").mkdir()
    (tmp_path / "closed").chmod(0)
    closed, out, arith = tmp_path / "closed", tmp_path / "soup", f"{zoo}/arith"
    asked = [
        (1, [f"{closed}=1", "--out", out]),
        (1, [f"{arith}=1", "--base", closed, "--out", out]),
        (2, [f"{closed}/within=1", "--out", out]),
        (2, [f"{arith}=1", "--out", closed / "new/soup"]),
    ]
    before, cache = ordinary(), str(tmp_path / "cache")
    running = [process(*w, "--json", before=before, XDG_CACHE_HOME=cache) for _, w in asked]
    for (code, words), one in zip(asked, running, strict=True):
        told, err = one.communicate(timeout=120)
        assert (one.returncode, "Traceback" in err) == (code, False), (words, told, err)
        found = json.loads(told)
        (fault,) = found["refusals"] if code == 1 else [found["error"]]
        assert fault["code"] == ("unsafe-file" if code == 1 else "misconfigured")
        assert "Permission denied" in fault.get("detail", fault.get("message"))
        assert str(closed) in fault.get("subject", fault.get("message"))
    assert not out.exists()


def test_another_dtype_is_named_at_every_depth_and_all_else_keeps_its_bytes(bot, zoo, tmp_path):
    write_member("base", tmp_path / "m")
    text = (zoo / "base/config.json").read_text().rstrip().removesuffix("}").rstrip()
    text += """, "odd": [1e400, "dtype", "a\\"dtype\\": 1"], "time_step_limit": [0.0, Infinity],
      "note": "bfloat16", "text_config": {"torch_\\u0064type" : "bfloat16", "dtype": 7,
      "vision_config": {"dtype":\n"float16"}}, "precise": 0.10000000000000000000000001}"""
    assert text.count('"bfloat16"') == 3
    (tmp_path / "m/config.json").write_text(text)
    bot(f"{tmp_path}/m=1", "--dtype", "float32", "--out", tmp_path / "soup")
    wanted = text.replace('"note": "bfloat16"', "NOTE").replace('"bfloat16"', '"float32"')
    wanted = wanted.replace('"float16"', '"float32"').replace("NOTE", '"note": "bfloat16"')
    assert (tmp_path / "soup/config.json").read_text() == wanted


def test_names_that_no_recipe_can_hold_are_refused_before_weights_are_read(bot, tmp_path):
    for name in (b"two\nlines", b"\xff"):
        folder = tmp_path / os.fsdecode(name)
        write_member("string", folder)
        for words in ([f"{folder}=1/2", "arith=1/2"], ["arith=1", "--base", folder]):
            (refusal,) = bot(*words, "--plan", "--json", code=1)["refusals"]
            assert (refusal["code"], refusal["detail"]) == ("bad-recipe", "not a name")
        bot(f"{folder}=1/2", "arith=1/2", "--plan", "--no-hash")


def test_options_may_add_to_a_merge_of_mergekits_but_not_contradict_it(bot, tmp_path):
    merge = tmp_path / "merge.yaml"
    models = "merge_method: linear\nmodels: [{model: arith, parameters: {weight: 1}}]\n"
    merge.write_text(models)
    added = ["--base", "base", "--dtype", "float32", "--plan", "--json"]
    assert bot("--recipe", merge, *added)["plan"]["base"] == "base"
    merge.write_text(f"{models}base_model: base\ndtype: float32\n")
    assert bot("--recipe", merge, *added)["plan"]["dtypes"].keys() == {"F32"}
    for option, other, said in (("--base", "string", "base"), ("--dtype", "float16", "float32")):
        told = wrong("--recipe", merge, option, other, "--plan")
        assert told == f"{merge} says {said}: leave out {option}, or change the file"
