"""A router repository as a stranger meets it: transformers, two models, and none of our code.

`STOCKPOT_TEST_STRANGER=PYTHON` names the interpreter of a stranger with another transformers, to
try what `requirements.txt` of a router's repository promises.
"""

import ast
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi

from bot.localhub import LocalHub
from route import settings
from route.config import Pin, Preset, PromptFormat, RouterConfig
from route.generate import generate
from route.hubrepo import repository_files
from route.rules import Router

PROMPTS = ["a fox", " the river and", "hid"]
PYTHON = os.environ.get("STOCKPOT_TEST_STRANGER", sys.executable)

STRANGER = """
import json, sys, warnings

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("bot", "merge", "route", "db"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(1)
warnings.simplefilter("error", UserWarning)
models = {name: AutoModelForCausalLM.from_pretrained(name) for name in json.loads(sys.argv[1])}
base, aligned = models
tokenizer = AutoTokenizer.from_pretrained(aligned, padding_side="left")
inputs = tokenizer(json.loads(sys.argv[2]), return_tensors="pt", padding=True)
for call in json.loads(sys.argv[3]):
    torch.manual_seed(5)
    try:
        output = models[aligned].generate(
            **inputs,
            base_model=models[call.pop("base", base)],
            tokenizer=tokenizer,
            trust_remote_code=True,
            do_sample=True,
            top_k=0,
            max_new_tokens=12,
            **call,
        )
        print(json.dumps(output.tolist()))
    except ValueError as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
assert not {"bot", "merge", "route", "db"} & {name.split(".")[0] for name in sys.modules}
"""


def stranger(folder, models, *calls, **environment):
    """What each call of `generate` gave in a process without our packages."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    run = subprocess.run(
        [PYTHON, "-I", "-c", STRANGER, *map(json.dumps, (models, PROMPTS, calls))],
        cwd=folder,
        env={**kept, "HF_HOME": str(folder / "home"), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.fixture
def world(tmp_path, base, aligned, tokenizer):
    for name, model in {"base": base, "aligned": aligned}.items():
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    return tmp_path


@pytest.fixture
def config(make_config):
    presets = {"balanced": Preset(0.3, 0.4), "wild": Preset(0.6, 0.9)}
    return make_config(
        Router.P_PUNC,
        0.4,
        share=0.3,
        presets=presets,
        preset="balanced",
        prompt_format=PromptFormat.PLAIN,
    )


@pytest.fixture
def expected(base, aligned, tokenizer, config):
    tokenizer.padding_side = "left"
    inputs = tokenizer(PROMPTS, return_tensors="pt", padding=True)

    def run(preset):
        torch.manual_seed(5)
        return generate(
            aligned,
            **inputs,
            base_model=base,
            tokenizer=tokenizer,
            config=config,
            prompts=PROMPTS,
            preset=preset,
            do_sample=True,
            top_k=0,
            max_new_tokens=12,
        ).tolist()

    return run


def test_published_modules_import_nothing_of_ours(config):
    files = repository_files(config)
    modules = {name for name in files if name.endswith(".py")}
    allowed = sys.stdlib_module_names | {"torch", "transformers"}
    assert "custom_generate/generate.py" in modules
    for name in modules:
        for node in ast.walk(ast.parse(files[name])):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert (node.level, bool(node.module)) == (1, True), name
                assert f"custom_generate/{node.module}.py" in modules, (name, node.module)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                imported = [node.module] if isinstance(node, ast.ImportFrom) else []
                imported += [alias.name for alias in node.names if isinstance(node, ast.Import)]
                assert {one.split(".")[0] for one in imported} <= allowed, (name, imported)


def test_what_is_private_to_transformers_was_tried_at_the_published_floor(config):
    """Another name here: try the lowest version again (`STOCKPOT_TEST_STRANGER`), then add it."""
    files = repository_files(config)
    trees = [ast.parse(text) for name, text in files.items() if name.endswith(".py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    named = {node.attr for node in nodes if isinstance(node, ast.Attribute) and not of_self(node)}
    named |= {node.value for node in nodes if isinstance(node, ast.Constant)}
    private = {name for name in named if re.fullmatch(r"_[a-z]\w*", str(name))}
    assert private == {"_commit_hash", "_eos_token_tensor", "_pad_token_tensor"}
    assert files["custom_generate/requirements.txt"] == b"transformers>=5.10\n"


def of_self(node):
    """Whether it is an attribute of the object whose method reads it."""
    return isinstance(node.value, ast.Name) and node.value.id == "self"


def test_the_library_itself_carries_no_router():
    assert settings.ROUTER_JSON == ""
    with pytest.raises(ValueError, match="pass config="):
        generate(None)


def test_the_settings_are_the_router_and_only_a_string(config):
    hostile = replace(config, base=Pin('"""\n\\" + __import__("os").abort() #', fingerprint="f"))
    files = repository_files(hostile)
    assert RouterConfig.from_json(files["router.json"].decode()) == hostile
    tree = ast.parse(files["custom_generate/settings.py"])
    assert [type(node) for node in tree.body] == [ast.Expr, ast.Assign]
    assert RouterConfig.from_json(ast.literal_eval(tree.body[1].value)) == hostile


def test_a_folder_works_without_our_package(world, config, expected):
    write(world / "router", repository_files(config))
    call = {"custom_generate": "router", "prompts": PROMPTS}
    wild, balanced, unasked, swapped = stranger(
        world,
        ["base", "aligned"],
        {**call, "preset": "wild"},
        call,
        {"custom_generate": "router"},
        {**call, "base": "aligned"},
        HF_HUB_OFFLINE="1",
    )
    assert wild == expected("wild")
    assert balanced == expected("balanced")
    assert wild != balanced
    assert unasked.startswith("PromptFormatError") and "Add prompts=[...]" in unasked
    assert swapped.startswith("PinMismatch: the base model is not the one")


def test_a_hub_repository_works_pinned_and_unpinned(world, config, expected):
    with LocalHub(world / "hub", users={"alice": ["tiny"]}) as hub:
        api = HfApi(endpoint=hub.url, token=hub.token("alice"))
        pins = {}
        for name in ("base", "aligned"):
            api.create_repo(f"tiny/{name}")
            done = api.upload_folder(repo_id=f"tiny/{name}", folder_path=world / name)
            pins[name] = replace(getattr(config, name), sha=done.oid)
        api.create_repo("tiny/router")
        write(world / "v1", repository_files(replace(config, **pins)))
        first = api.upload_folder(repo_id="tiny/router", folder_path=world / "v1")
        second = replace(config, **pins, threshold=0.9, share=0.6, preset="wild")
        write(world / "v2", repository_files(second))
        api.upload_folder(repo_id="tiny/router", folder_path=world / "v2")

        call = {"custom_generate": "tiny/router", "prompts": PROMPTS}
        pinned = {**call, "revision": first.oid}
        models = ["tiny/base", "tiny/aligned"]
        online = stranger(world, models, call, pinned, HF_ENDPOINT=hub.url)
        assert online == [expected("wild"), expected("balanced")]
    offline = stranger(world, models, pinned, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")
    assert offline == [expected("balanced")]


def test_publishing_loads_no_model_library():
    """The daemon renders repositories and reads configurations; it must stay small."""
    code = "import sys, route.hubrepo; print({'torch', 'transformers', 'numpy'} & {*sys.modules})"
    root = Path(repository_files.__code__.co_filename).parents[1]
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "set()"
