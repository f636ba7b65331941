"""Admission of real repositories on a Hub on loopback: each refusal has its own code."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from bot.admission import Admitted, Limits, examine, reference_of
from bot.errors import Gone, Rejected, Transient
from bot.hub import Hub
from bot.localhub import Fault, LocalHub
from bot.reasons import Reason
from merge.checkpoint import INDEX, SINGLE

SHAPES = {"model.embed_tokens.weight": (16, 8), "model.norm.weight": (8,)}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "vocab_size": 16,
    "tie_word_embeddings": True,
}
TOKENIZER = {
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
    "added_tokens": [],
}
LIMITS = Limits(max_bytes=10**9)
SIZES = {"F32": 4, "BF16": 2}


def weights(shapes=SHAPES, dtype="F32", fill=1, tail=b"") -> bytes:
    header, at = {}, 0
    for name, shape in shapes.items():
        size = SIZES[dtype]
        for n in shape:
            size *= n
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes([fill]) * at + tail


def index(weight_map) -> str:
    return json.dumps({"metadata": {}, "weight_map": weight_map})


def model(**changes):
    """Files of an honest fine-tune; `changes` with `None` take a file away."""
    files = {
        "README.md": "---\nlicense: apache-2.0\nbase_model: tiny/base\n---\n",
        "config.json": json.dumps(CONFIG),
        "tokenizer.json": json.dumps(TOKENIZER),
        SINGLE: weights(fill=2),
    }
    return {path: text for path, text in (files | changes).items() if text is not None}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub"), users={"alice": ["tiny"]}) as running:
        yield running


class World:
    def __init__(self, server: LocalHub, cache: Path) -> None:
        self.server = server
        self.api = HfApi(endpoint=server.url, token=server.token("alice"))
        self.hub = Hub(server.url, server.token("alice"), cache, pause=0)
        self.push("tiny/base", model(**{SINGLE: weights(fill=1, dtype="BF16")}))
        self.base = reference_of(self.hub, self.hub.info("tiny/base"))
        self.count = 0

    def push(self, repo, files):
        self.api.create_repo(repo, exist_ok=True)
        adds = [
            CommitOperationAdd(path, text.encode() if isinstance(text, str) else text)
            for path, text in files.items()
        ]
        self.api.create_commit(repo, adds, commit_message="add")

    def judge(self, files, limits=LIMITS, known=None):
        self.count += 1
        repo = f"tiny/m{self.count}"
        self.push(repo, files)
        return self.examine(repo, limits, known)

    def examine(self, repo, limits=LIMITS, known=None):
        self.server.forget_requests()
        known = {self.base.lfs_digest: "tiny/base@" + "0" * 40} | (known or {})
        return examine(self.hub, self.hub.info(repo), self.base, limits, known)


@pytest.fixture(scope="module")
def world(server, tmp_path_factory) -> World:
    return World(server, tmp_path_factory.mktemp("cache"))


def test_an_honest_fine_tune_is_admitted_without_its_weights(world):
    found = world.judge(model(**{"notes.txt": "x", "pytorch_model.bin": b"\x80pickle"}))

    assert isinstance(found, Admitted)
    assert [file.path for file in found.files] == [SINGLE]
    assert found.publishable
    assert found.licence == "apache-2.0"
    assert found.weights_bytes == len(weights())
    asked = [r.path for r in world.server.requests if "/resolve/" in r.path]
    assert not [path for path in asked if path.endswith((".bin", ".txt", "tokenizer.json"))]


def test_a_sharded_fine_tune_without_a_tokenizer_is_admitted(world):
    names = list(SHAPES)
    shards = {"model-1.safetensors": {names[0]: SHAPES[names[0]]}}
    shards["model-2.safetensors"] = {names[1]: SHAPES[names[1]]}
    weight_map = {name: file for file, part in shards.items() for name in part}
    files = {file: weights(part, fill=3) for file, part in shards.items()}

    found = world.judge(
        model(**files, **{INDEX: index(weight_map), SINGLE: None, "tokenizer.json": None})
    )

    assert isinstance(found, Admitted)
    assert [file.path for file in found.files] == [INDEX, *shards]


def test_an_index_of_the_single_file_is_no_second_model(world):
    found = world.judge(model(**{INDEX: index(dict.fromkeys(SHAPES, SINGLE))}))
    assert isinstance(found, Admitted)
    assert [file.path for file in found.files] == [INDEX, SINGLE]


OTHER = {**CONFIG, "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
SWAPPED = {**TOKENIZER, "model": {**TOKENIZER["model"], "vocab": {"a": 1, "b": 0, "ab": 2}}}
WIDE = {**SHAPES, "model.embed_tokens.weight": (16, 9)}
NO_CARD_LICENCE = "---\nbase_model: tiny/base\n---\n"
HIDDEN = {"_attn_implementation_internal": "evil/repo"}
REFUSED = {
    "pickle only": (model(**{SINGLE: None, "pytorch_model.bin": b"x"}), Reason.NO_SAFETENSORS),
    "adapter only": (
        model(**{SINGLE: None, "adapter_model.safetensors": weights()}),
        Reason.UNSUPPORTED_ADAPTER,
    ),
    "other architecture": (
        model(**{"config.json": json.dumps(OTHER), SINGLE: weights({"wte.weight": (4, 4)})}),
        Reason.OTHER_ARCHITECTURE,
    ),
    "other names": (model(**{SINGLE: weights({"wte.weight": (4, 4)})}), Reason.WRONG_TENSORS),
    "other shapes": (model(**{SINGLE: weights(WIDE)}), Reason.WRONG_SHAPES),
    "missing shard": (
        model(**{SINGLE: None, INDEX: index(dict.fromkeys(SHAPES, "model-9.safetensors"))}),
        Reason.MISSING_SHARD,
    ),
    "path in the index": (
        model(**{INDEX: index(dict.fromkeys(SHAPES, "../../model.safetensors"))}),
        Reason.BAD_INDEX,
    ),
    "two models in one folder": (
        model(
            **{INDEX: index(dict.fromkeys(SHAPES, "model-1.safetensors"))},
            **{"model-1.safetensors": weights(fill=3)},
        ),
        Reason.BAD_INDEX,
    ),
    "index that is no JSON": (model(**{INDEX: "[" * 500}), Reason.BAD_INDEX),
    "other vocabulary": (model(**{"tokenizer.json": json.dumps(SWAPPED)}), Reason.VOCAB_MISMATCH),
    "tokenizer that is no JSON": (model(**{"tokenizer.json": "{"}), Reason.VOCAB_MISMATCH),
    "no licence": (model(**{"README.md": NO_CARD_LICENCE}), Reason.NO_LICENCE),
    "unknown licence": (
        model(**{"README.md": "---\nlicense: other\nbase_model: tiny/base\n---\n"}),
        Reason.NO_LICENCE,
    ),
    "licence not to share": (
        model(**{"README.md": "---\nlicense: cc-by-nc-4.0\nbase_model: tiny/base\n---\n"}),
        Reason.LICENCE_DENIED,
    ),
    "re-upload of the base": (
        model(**{SINGLE: weights(fill=1, dtype="BF16")}),
        Reason.DUPLICATE,
    ),
    "code in the config": (
        model(**{"config.json": json.dumps({**CONFIG, "auto_map": {"AutoModel": "x.Y"}})}),
        Reason.NEEDS_CODE,
    ),
    "hidden code switch": (
        model(**{"config.json": json.dumps({**CONFIG, **HIDDEN})}),
        Reason.NEEDS_CODE,
    ),
    "code beside the weights": (model(**{"modeling_llama.py": "1/0"}), Reason.NEEDS_CODE),
    "unknown config key": (
        model(**{"config.json": json.dumps({**CONFIG, "logit_scale": 2})}),
        Reason.CONFIG_MISMATCH,
    ),
    "no config": (model(**{"config.json": None}), Reason.CONFIG_MISMATCH),
    "config with duplicate keys": (
        model(**{"config.json": '{"a": 1, "a": 2}'}),
        Reason.CONFIG_MISMATCH,
    ),
    "trailing bytes": (model(**{SINGLE: weights(tail=b"PK")}), Reason.BAD_SAFETENSORS),
    "empty file": (model(**{SINGLE: b""}), Reason.BAD_SAFETENSORS),
    "header bomb": (model(**{SINGLE: b"\xff" * 8 + b"{}"}), Reason.HEADER_TOO_LARGE),
    "many tensors": (
        model(**{SINGLE: weights({f"t{i}": (0,) for i in range(9)})}),
        Reason.TOO_MANY_TENSORS,
    ),
    "names that differ by case": (model(**{"Model.safetensors": weights()}), Reason.BAD_LISTING),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_repositories_are_refused_with_their_own_code(world, name):
    files, code = REFUSED[name]
    found = world.judge(files)
    assert isinstance(found, Rejected)
    assert found.code is code, str(found)


def test_an_exact_re_upload_under_another_name(world):
    first = world.judge(model(**{SINGLE: weights(fill=7)}))
    again = world.judge(
        model(**{SINGLE: weights(fill=7)}), known={first.lfs_digest: "tiny/first@1"}
    )

    assert (again.code, again.subject) == (Reason.DUPLICATE, "tiny/first@1")


def test_looking_again_at_the_same_commit_finds_no_duplicate_of_itself(world):
    world.push("tiny/again", model(**{SINGLE: weights(fill=8)}))
    first = world.examine("tiny/again")
    pin = f"tiny/again@{world.hub.head('tiny/again')}"
    assert isinstance(world.examine("tiny/again", known={first.lfs_digest: pin}), Admitted)


def test_gated_and_private(world):
    world.push("tiny/gated", model())
    world.server.set_gated("tiny/gated")
    world.server.forget_requests()
    assert world.examine("tiny/gated").code is Reason.GATED
    assert not [r for r in world.server.requests if "/resolve/" in r.path]

    world.push("tiny/private", model(**{SINGLE: weights(fill=9)}))
    world.api.update_repo_settings("tiny/private", private=True)
    assert world.examine("tiny/private").code is Reason.PRIVATE
    hidden = world.examine("tiny/private", Limits(10**9, allow_private=True))
    assert isinstance(hidden, Admitted)
    assert not hidden.publishable


def test_no_licence_may_be_allowed_for_private_use(world):
    files = model(**{"README.md": NO_CARD_LICENCE, SINGLE: weights(fill=10)})
    found = world.judge(files, Limits(10**9, allow_private=True))
    assert isinstance(found, Admitted)
    assert not found.publishable


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(max_bytes=100), Reason.TOO_LARGE),
        (Limits(10**9, deny=["TINY"]), Reason.AUTHOR_DENIED),
        (Limits(10**9, allow=["somebody"]), Reason.AUTHOR_DENIED),
        (Limits(10**9, licences=["mit"]), Reason.LICENCE_DENIED),
        (Limits(10**9, allow=["Tiny"]), None),
    ],
)
def test_the_operators_limits(world, limits, code):
    world.push("tiny/limits", model(**{SINGLE: weights(fill=11)}))
    found = world.examine("tiny/limits", limits)
    assert (found.code if isinstance(found, Rejected) else None) is code


def test_weights_far_larger_than_the_base_are_not_opened(world):
    big = weights({"a": (8_000_000,)})
    found = world.judge(model(**{SINGLE: big}))
    assert found.code is Reason.TOO_LARGE
    assert not [r for r in world.server.requests if "/resolve/" in r.path]


def test_several_reasons_report_the_first_in_order(world):
    worst = {
        "README.md": NO_CARD_LICENCE,
        "config.json": json.dumps(OTHER),
        "modeling.py": "",
        SINGLE: weights(WIDE),
    }
    assert world.judge(model(**worst)).code is Reason.NO_LICENCE
    worst["README.md"] = model()["README.md"]
    assert world.judge(model(**worst)).code is Reason.OTHER_ARCHITECTURE
    worst["config.json"] = json.dumps(CONFIG)
    assert world.judge(model(**worst)).code is Reason.WRONG_SHAPES
    worst[SINGLE] = weights(fill=12)
    assert world.judge(model(**worst)).code is Reason.NEEDS_CODE


def test_faults_of_the_hub_are_no_verdict(world):
    world.push("tiny/faults", model(**{SINGLE: weights(fill=13)}))
    world.server.inject(Fault(r"GET /tiny/faults/resolve/\w+/model", "status", 9, status=500))
    with pytest.raises(Transient):
        world.examine("tiny/faults")
    world.server.clear_faults()
    facts = world.hub.info("tiny/faults")
    world.api.delete_repo("tiny/faults")
    with pytest.raises(Gone):
        examine(world.hub, facts, world.base, LIMITS, {})
