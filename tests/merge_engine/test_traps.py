"""Where merging goes silently wrong elsewhere: one row per trap, and what happens here instead.

A row makes a situation. It ends in a refusal that names the culprit, or in exactly the bytes that
`reference` computes. What needs more than one look has a test of its own below the table; kills,
full disks and proofs are in test_soup, damaged files in tests/hostile, donors in tests/cli.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from math import sqrt
from pathlib import Path

import checkpoints as zoo
import pytest
import reference
import torch
from safetensors.torch import save_file

from merge.errors import Code, Refused
from merge.fingerprints import fingerprint
from merge.recipe import Member, Recipe
from merge.remarks import remarks
from merge.soup import plan_soup, write_soup

EMBED, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
UP = "model.layers.0.mlp.up_proj.weight"
HALF = Fraction(1, 2)
HALVES = (HALF, HALF)
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}  # fmt: skip
TOKENIZER = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}}
BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32


@dataclass
class Case:
    """members: folders. truth: what they effectively are, the first with the output's names; None
    where the soup is refused with `code` and `subject`."""

    members: list[Path]
    truth: list | None = None
    code: Code | None = None
    subject: str = ""
    weights: tuple = HALVES
    dtype: torch.dtype = BF16
    options: dict = field(default_factory=dict)


ROWS: dict[str, Callable[[Path], Case]] = {}


def row(trap: str):
    def add(make):
        assert trap not in ROWS
        ROWS[trap] = make
        return make

    return add


def pair(room, one, two, configs=(None, None), shards=(1, 1)):
    return [
        zoo.save(room / name, state, parts, config)
        for name, state, config, parts in zip("ab", (one, two), configs, shards, strict=True)
    ]


def state(seed=0, **extra):
    return {**zoo.tensors(seed), **extra}


def refused(room, one, two, code, subject, *configs, **options):
    return Case(pair(room, one, two, configs or (None, None)), None, code, subject, **options)


def mixed(room, one, two, *configs, shards=(1, 1), truth=None, **options):
    folders = pair(room, one, two, configs or (None, None), shards)
    return Case(folders, truth or [one, two], **options)


# ------------------------------------------------------------------------------ values and weights


@row("NaN in an input")
def _(room):
    bad = state(1)
    bad[UP][40, 3] = float("nan")
    return refused(room, state(0), bad, Code.NON_FINITE, f"b: {UP}")


@row("infinity in an input that is alone")
def _(room):
    bad = state(1)
    bad[NORM][0] = float("-inf")
    weights = (Fraction(0), Fraction(1))
    return refused(room, state(0), bad, Code.NON_FINITE, f"b: {NORM}", weights=weights)


@row("infinity born in the soup: fp32 sums that fp16 cannot hold")
def _(room):
    one, two = ({"w": torch.full((3,), v)} for v in (65519.0, 65521.0))
    return refused(room, one, two, Code.NON_FINITE, "soup: w", options={"dtype": "float16"})


@row("the largest sum that still rounds into fp16")
def _(room):
    one, two = ({"w": torch.full((3,), v)} for v in (65519.0, 65518.0))
    return mixed(room, one, two, dtype=F16, options={"dtype": "float16"})


@row("weights that sum to zero")
def _(room):
    weights = (Fraction(1), Fraction(-1))
    options = {"allow_negative": True}
    return refused(room, state(0), state(1), Code.WEIGHTS, "sum", weights=weights, options=options)


@row("weights that sum to two are not normalised")
def _(room):
    weights = (Fraction(1), Fraction(1))
    return refused(room, state(0), state(1), Code.WEIGHTS, "sum", weights=weights)


@row("negative weights without asking")
def _(room):
    weights = (Fraction(3, 2), Fraction(-1, 2))
    return refused(room, state(0), state(1), Code.WEIGHTS, "-1/2", weights=weights)


@row("negative weights on request")
def _(room):
    weights = (Fraction(3, 2), Fraction(-1, 2))
    return mixed(room, state(0), state(1), weights=weights, options={"allow_negative": True})


@row("decimal weights: exact ties go to even, without a bias")
def _(room):
    """Every other sum of 0.4 and 0.6 lies halfway between two bfloat16."""
    steps = torch.arange(128, 256, dtype=torch.float64)
    one, two = {"w": steps.to(BF16)}, {"w": (steps + 5).clamp(max=255).to(BF16)}
    return mixed(room, one, two, weights=(Fraction(1, 10), Fraction(9, 10)))


@row("weight 0: its tensors are not read, be they what they may")
def _(room):
    bad = state(1)
    bad[UP][:] = float("nan")
    return mixed(room, state(0), bad, weights=(Fraction(1), Fraction(0)))


@row("weight 1 keeps every bit: -0.0 and subnormals")
def _(room):
    one = state(0)
    one["z.first"][:4] = torch.tensor([-0.0, 1e-40, -1e-40, 9.2e-41])
    return mixed(room, one, state(1), weights=(Fraction(1), Fraction(0)))


@row("sums that are subnormal in the output")
def _(room):
    draw = torch.Generator().manual_seed(0)
    one, two = ({"w": torch.randn(999, generator=draw) * 2.0**-131} for _ in range(2))
    weights = (Fraction(2, 7), Fraction(5, 7))
    return mixed(room, one, two, weights=weights, options={"dtype": "bfloat16"})


@row("half of the smallest subnormal is a tie to zero")
def _(room):
    one = {"w": torch.tensor([2.0**-24, 3 * 2.0**-24, -(2.0**-24)], dtype=F16)}
    return mixed(room, one, {"w": torch.zeros(3, dtype=F16)}, dtype=F16)


# ------------------------------------------------------------------------------ heads and ties


@row("tied in all: the head stays absent")
def _(room):
    return mixed(room, state(0), state(1))


@row("tied in one, spelt out and equal in the other")
def _(room):
    spelt = state(1)
    spelt[HEAD] = spelt[EMBED].float()
    two = {name: x for name, x in spelt.items() if name != HEAD}
    return mixed(room, state(0), spelt, truth=[state(0), two])


@row("tied in one, another head in the other")
def _(room):
    untied = state(1)
    untied[HEAD] = untied[EMBED] * 2
    return refused(room, state(0), untied, Code.UNTIED_HEAD, f"b: {HEAD}")


@row("an untied base takes the tied member's effective head")
def _(room):
    untied, tied = state(0), state(1)
    untied[HEAD] = untied[EMBED] * 2
    truth = [untied, {**tied, HEAD: tied[EMBED]}]
    return mixed(room, untied, tied, truth=truth, options={"reference": room / "a"})


@row("the head is absent though the configuration says it is not tied")
def _(room):
    full = state(0)
    full[HEAD] = full[EMBED] * 2
    untied = {**CONFIG, "tie_word_embeddings": False}
    return refused(room, full, state(1), Code.WRONG_TENSORS, f"b: {HEAD}", untied, untied)


@row("no member has the head that their architecture has")
def _(room):
    untied = {**CONFIG, "tie_word_embeddings": False}
    return refused(room, state(0), state(1), Code.WRONG_TENSORS, f"a: {HEAD}", untied, untied)


def unsaid(model_type, architecture):
    return {"model_type": model_type, "architectures": [architecture]}


@row("nothing says whether the head is tied, and the class does not tie it")
def _(room):
    config = unsaid("llama", "LlamaForCausalLM")
    return refused(room, state(0), state(1), Code.WRONG_TENSORS, f"a: {HEAD}", config, config)


@row("nothing says whether the head is tied, and the class ties it")
def _(room):
    config = unsaid("gemma", "GemmaForCausalLM")
    return mixed(room, state(0), state(1), config, config)


@row("nothing says whether the head is tied, the class ties it, and a member has its own")
def _(room):
    config = unsaid("gemma", "GemmaForCausalLM")
    one, two = state(0), state(1)
    one[HEAD], two[HEAD] = one[EMBED].clone(), two[EMBED] * 2
    return refused(room, one, two, Code.UNTIED_HEAD, f"b: {HEAD}", config, config)


@row("nothing says whether the head is tied, and nobody knows the class")
def _(room):
    config = unsaid("something_new", "SomethingNewForCausalLM")
    return mixed(room, state(0), state(1), config, config)


@row("the base ties its head, a member says that it does not and has none")
def _(room):
    tied, untied = ({**CONFIG, "tie_word_embeddings": ties} for ties in (True, False))
    for config in (tied, untied):
        config["architectures"] = ["LlamaForSomethingElse"]
    return refused(room, state(0), state(1), Code.WRONG_TENSORS, f"b: {HEAD}", tied, untied)


@row("members of an architecture without a head")
def _(room):
    encoder = {**CONFIG, "tie_word_embeddings": False, "architectures": ["LlamaModel"]}
    return mixed(room, state(0), state(1), encoder, encoder)


@row("the base says tied but a member's head is its own")
def _(room):
    tied = {**CONFIG, "tie_word_embeddings": True}
    one, two = state(0), state(1)
    one[HEAD], two[HEAD] = one[EMBED].clone(), two[EMBED] * 2
    options = {"reference": room / "a"}
    return refused(room, one, two, Code.UNTIED_HEAD, f"b: {HEAD}", tied, tied, options=options)


@row("beside an untied base, a member says that it ties its head and stores another")
def _(room):
    ties = {**CONFIG, "tie_word_embeddings": True}
    one, two = state(0), state(1)
    one[HEAD], two[HEAD] = one[EMBED] * 2, two[EMBED] * 2
    untied = {**CONFIG, "tie_word_embeddings": False}
    options = {"reference": room / "a"}
    return refused(room, one, two, Code.UNTIED_HEAD, f"b: {HEAD}", untied, ties, options=options)


@row("beside an untied base, a member says that it ties its head and stores the same")
def _(room):
    ties = {**CONFIG, "tie_word_embeddings": True}
    one, two = state(0), state(1)
    one[HEAD], two[HEAD] = one[EMBED] * 2, two[EMBED].clone()
    untied = {**CONFIG, "tie_word_embeddings": False}
    return mixed(room, one, two, untied, ties, options={"reference": room / "a"})


@row("the configuration names another file of weights, which transformers 5 would load")
def _(room):
    named = {**CONFIG, "transformers_weights": "other.safetensors"}
    return refused(
        room, state(0), state(1), Code.CONFIG_MISMATCH, "a: transformers_weights", named, named
    )


# ------------------------------------------------------------------------------ names and shapes


@row("an extra bias in one member")
def _(room):
    extra = state(1, **{"model.layers.0.mlp.up_proj.bias": torch.zeros(48)})
    subject = "b: model.layers.0.mlp.up_proj.bias"
    return refused(room, state(0), extra, Code.WRONG_TENSORS, subject)


@row("the remains of an adapter")
def _(room):
    extra = state(1, **{"model.layers.0.mlp.up_proj.lora_A.weight": torch.zeros(4, 16)})
    subject = "b: model.layers.0.mlp.up_proj.lora_A.weight"
    return refused(room, state(0), extra, Code.WRONG_TENSORS, subject)


@row("a missing tensor")
def _(room):
    lacking = {name: x for name, x in state(1).items() if name != UP}
    return refused(room, state(0), lacking, Code.WRONG_TENSORS, f"b: {UP}")


@row("a transposed matrix")
def _(room):
    turned = state(1)
    turned[UP] = turned[UP].T.contiguous()
    return refused(room, state(0), turned, Code.WRONG_SHAPES, f"b: {UP}")


@row("more rows in the vocabulary, padding or not")
def _(room):
    padded = state(1)
    padded[EMBED] = torch.cat([padded[EMBED], torch.zeros(31, 16, dtype=BF16)])
    return refused(room, state(0), padded, Code.WRONG_SHAPES, f"b: {EMBED}")


@row("fused names in one, split in the other")
def _(room):
    fused = state(1)
    fused["model.layers.0.mlp.gate_up_proj.weight"] = torch.cat([fused.pop(UP)] * 2)
    return refused(room, state(0), fused, Code.WRONG_TENSORS, f"b: {UP}")


@row("names in odd order, shapes of size zero, a scalar")
def _(room):
    odd = {"": (2,), "é": (0,), "a" * 300: (3, 0, 2), "10": (5,), "9": (), " ": (1, 1), "w": (7, 3)}
    one, two = zoo.tensors(0, shapes=odd), zoo.tensors(1, shapes=dict(reversed(odd.items())))
    return mixed(room, one, two, shards=(1, 3), weights=(Fraction(3, 7), Fraction(4, 7)))


# ------------------------------------------------------------------------------ dtypes


@row("bf16 + fp16: fp16 never passes through bf16")
def _(room):
    one, two = zoo.tensors(0, F16), zoo.tensors(1, BF16)
    weights = (Fraction(9, 10), Fraction(1, 10))
    return mixed(room, one, two, weights=weights, dtype=F32)


@row("bf16 + fp32 into the base's dtype")
def _(room):
    one, two = zoo.tensors(0, BF16), zoo.tensors(1, F32)
    return mixed(room, one, two, options={"reference": room / "a"})


@row("fp32 over many binades")
def _(room):
    one, two = (zoo.tensors(i, F32, spread=40) for i in range(2))
    weights = (Fraction(211, 1000), Fraction(789, 1000))
    return mixed(room, one, two, weights=weights, dtype=F32)


@row("integer and boolean buffers: equal, and copied")
def _(room):
    kinds = {"i64": torch.int64, "i32": torch.int32, "bool": torch.bool, "u8": torch.uint8}
    buffers = {name: torch.tensor([0, 1, 1, 0, 1]).to(kind) for name, kind in kinds.items()}
    return mixed(room, state(0, **buffers), state(1, **buffers))


@row("integer buffers that differ")
def _(room):
    one, two = (state(i, steps=torch.tensor([1, 2 + i])) for i in range(2))
    return refused(room, one, two, Code.WRONG_BUFFERS, "b: steps")


@row("buffers of different dtypes")
def _(room):
    one, two = state(0, m=torch.ones(3).bool()), state(1, m=torch.ones(3).to(torch.uint8))
    return refused(room, one, two, Code.WRONG_DTYPES, "b: m")


@row("rotary frequencies in one file: recomputed, so optional")
def _(room):
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.rand(8)}
    return mixed(room, state(0), state(1, **extra), truth=[state(0), state(1)])


@row("rotary frequencies that differ from the base's")
def _(room):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    one, two = (state(i, **{name: torch.full((8,), 1.0 + i)}) for i in range(2))
    options = {"reference": room / "a"}
    return refused(room, one, two, Code.WRONG_BUFFERS, f"b: {name}", options=options)


@row("fp8 codes beside a bf16 member")
def _(room):
    fp8 = {name: x.to(torch.float8_e4m3fn) for name, x in state(1).items()}
    return refused(room, state(0), fp8, Code.QUANTISED, "b: a.scalar")


@row("fp8 codes in all members")
def _(room):
    fp8 = {name: x.to(torch.float8_e4m3fn) for name, x in state(1).items()}
    return refused(room, fp8, fp8, Code.QUANTISED, "a: a.scalar")


def _quantised(trap, names, dtype=F32):
    @row(trap)
    def _(room):
        extra = {f"model.layers.0.mlp.{name}": torch.zeros(2, 2).to(dtype) for name in names}
        subject = f"b: model.layers.0.mlp.{sorted(names)[0]}"
        return refused(room, state(0), state(1, **extra), Code.QUANTISED, subject)


_quantised("fp8 scales", ["up_proj.weight_scale_inv"])
_quantised("GPTQ and AWQ", ["up_proj.qweight", "up_proj.qzeros", "up_proj.scales"], torch.int32)
_quantised("bitsandbytes, 4 bits", ["up_proj.weight.absmax", "up_proj.weight.quant_map"])
_quantised("bitsandbytes, 8 bits", ["up_proj.SCB"])
_quantised("compressed-tensors", ["up_proj.weight_packed", "up_proj.weight_shape"], torch.int32)


# ------------------------------------------------------------------------------ configuration


def _config(trap, change, code, key):
    @row(f"configuration: {trap}")
    def _(room):
        other = {**CONFIG, **change}
        return refused(room, state(0), state(1), code, f"b: {key}", CONFIG, other)


for _key, _value in {
    "head_dim": 8, "sliding_window": 4096, "rms_norm_eps": 1e-5, "hidden_act": "gelu",
    "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0, "embedding_multiplier": 12.0,
    "residual_multiplier": 0.22, "num_experts_per_tok": 4, "an_unknown_key": 1,
}.items():  # fmt: skip
    _config(_key, {_key: _value}, Code.CONFIG_MISMATCH, _key)
_config("rope_theta", {"rope_theta": 5e5}, Code.CONFIG_MISMATCH, "rope_parameters")
_config(
    "rope_scaling", {"rope_scaling": {"type": "linear", "factor": 2.0}},
    Code.CONFIG_MISMATCH, "rope_parameters",
)  # fmt: skip
_config("another model", {"model_type": "qwen2"}, Code.OTHER_ARCHITECTURE, "model_type")
_config("remote code", {"auto_map": {"AutoConfig": "x.Y"}}, Code.NEEDS_CODE, "auto_map")
_config(
    "declares quantised weights", {"quantization_config": {"quant_method": "bitsandbytes"}},
    Code.QUANTISED, "quantization_config",
)  # fmt: skip


@row("configuration: what cannot change the forward pass may differ")
def _(room):
    other = {**CONFIG, "eos_token_id": [1, 2], "torch_dtype": "float32", "use_cache": False,
             "_name_or_path": "me/mine", "transformers_version": "4.40.0"}  # fmt: skip
    return mixed(room, state(0), state(1), CONFIG, other)


@row("tokenizers of one size with other content")
def _(room):
    case = refused(room, state(0), state(1), Code.VOCAB_MISMATCH, "b: a")
    swapped = {"model": {**TOKENIZER["model"], "vocab": {"a": 1, "b": 0}}}
    for folder, value in zip(case.members, (TOKENIZER, swapped), strict=True):
        (folder / "tokenizer.json").write_text(json.dumps(value))
    return case


@row("older tokenizers of one size with other content")
def _(room):
    case = refused(room, state(0), state(1), Code.VOCAB_MISMATCH, "b: tokenizer.model")
    for folder, value in zip(case.members, (b"one", b"two"), strict=True):
        (folder / "tokenizer.model").write_bytes(value)
        (folder / "merges.txt").write_text("a b")
    return case


@row("another architecture, and all that follows from it")
def _(room):
    other = {**CONFIG, "model_type": "gpt2"}
    strange = zoo.tensors(1, shapes={"wte.weight": (3, 4)})
    return refused(room, state(0), strange, Code.OTHER_ARCHITECTURE, "b: model_type", CONFIG, other)


@row("nothing but buffers of different shapes")
def _(room):
    ones = [{"rotary.inv_freq": torch.ones(n)} for n in (3, 4)]
    return refused(room, *ones, Code.WRONG_TENSORS, "a")


# ------------------------------------------------------------------------------ files


@row("shards laid out differently")
def _(room):
    return mixed(room, state(0), dict(reversed(state(1).items())), shards=(3, 2))


@row("strays and an adapter's remains beside an index: the index decides")
def _(room):
    case = mixed(room, state(0), state(1), shards=(2, 1))
    for name in ("adapter_model.safetensors", "stray.safetensors", "pytorch_model.bin"):
        (case.members[0] / name).write_bytes(b"junk")
    return case


@row("an index beside a single file that it does not name: which is meant?")
def _(room):
    folders = pair(room, state(0), state(1), shards=(2, 1))
    save_file(state(9), folders[0] / "model.safetensors")
    return Case(folders, None, Code.BAD_INDEX, "a: model.safetensors")


@row("an index of a single file, beside that file")
def _(room):
    case = mixed(room, state(0), state(1))
    index = {"weight_map": dict.fromkeys(state(0), "model.safetensors")}
    (case.members[0] / "model.safetensors.index.json").write_text(json.dumps(index))
    return case


@row("tensors at odd offsets")
def _(room):
    one, two = zoo.tensors(0, F32), zoo.tensors(1, BF16)
    folders = [zoo.save_unaligned(room / n, x) for n, x in zip("ab", (one, two), strict=True)]
    weights = (Fraction(1, 3), Fraction(2, 3))
    return Case(folders, [one, two], weights=weights, dtype=F32)


@row("pickles are never opened")
def _(room):
    (room / "a").mkdir()
    (room / "a/pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch PWNED'\ntR.")
    return Case([room / "a"], None, Code.NO_SAFETENSORS, "a: model.safetensors", (Fraction(1),))


@row("one folder twice")
def _(room):
    one, _ = pair(room, state(0), state(1))
    again = room / "b" / ".." / "a"
    return Case([one, again], None, Code.DUPLICATE_MEMBER, str(again))


# ------------------------------------------------------------------------------ adapters, experts


def lora(folder, seed, name=UP, rank=4, **config):
    """An adapter of one matrix of [48, 16], in peft's format. Returns {name: (A, B)}."""
    draw = torch.Generator().manual_seed(seed)
    a, b = torch.randn(rank, 16, generator=draw), torch.randn(48, rank, generator=draw) * 0.01
    module = f"base_model.model.{name.removesuffix('.weight')}"
    folder.mkdir()
    halves = {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
    save_file(halves, folder / "adapter_model.safetensors")
    shared = {"peft_type": "LORA", "r": rank, "lora_alpha": 6, "target_modules": ["up_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps({**shared, **config}))
    return {name: (a, b)}


def _lora(trap, scale, dtype=BF16, **config):
    @row(f"adapter: {trap}")
    def _(room):
        base = zoo.tensors(0, dtype)
        zoo.save(room / "base", base)
        whole = reference.applied(base, lora(room / "l", 1, **config), {UP: scale})
        options = {"reference": room / "base"}
        weights = (Fraction(3, 10), Fraction(7, 10))
        return Case(
            [room / "l", room / "base"], [whole, base], weights=weights, dtype=dtype,
            options=options,
        )  # fmt: skip


_lora("W + s B A, beside its base", 6 / 4)
_lora("on an fp32 base", 6 / 4, F32)
_lora("rank-stabilised", 6 / sqrt(4), use_rslora=True)
_lora("another rank than it says", 6 / 7, rank=7, r=4, rank_pattern={"up_proj": 7})
_lora("an alpha of its own", 11 / 4, alpha_pattern={"layers.0.mlp.up_proj": 11, "up_proj": 3})
_lora("another module's alpha", 6 / 4, alpha_pattern={"layers.2.mlp.up_proj": 11})


@row("adapter: alone")
def _(room):
    zoo.save(room / "base", state(0))
    whole = reference.applied(state(0), lora(room / "l", 1), {UP: 6 / 4})
    options = {"reference": room / "base"}
    return Case([room / "l"], [whole], weights=(Fraction(1),), options=options)


@row("adapter: beside a full checkpoint")
def _(room):
    zoo.save(room / "base", state(0))
    whole = reference.applied(state(0), lora(room / "l", 1), {UP: 6 / 4})
    full = zoo.save(room / "full", state(1))
    return Case([room / "l", full], [whole, state(1)], options={"reference": room / "base"})


@row("adapter: of weight 0 is not read")
def _(room):
    base = zoo.save(room / "base", state(0))
    lora(room / "l", 1)
    path = room / "l/adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\xc0\x7f")  # NaN
    weights = (Fraction(0), Fraction(1))
    return Case([room / "l", base], [state(0)] * 2, weights=weights, options={"reference": base})


def _no_lora(trap, subject, **config):
    @row(f"adapter: {trap}")
    def _(room):
        zoo.save(room / "base", state(0))
        lora(room / "l", 1, **config)
        return Case(
            [room / "l"], None, Code.UNSUPPORTED_ADAPTER, f"l: {subject}", (Fraction(1),),
            options={"reference": room / "base"},
        )  # fmt: skip


_no_lora("DoRA", "use_dora", use_dora=True)
_no_lora("KaSA", "kasa_config", kasa_config={"beta": 1})
_no_lora("fully trained modules", "modules_to_save", modules_to_save=["lm_head"])
_no_lora("biases", "bias", bias="all")
_no_lora("another kind", "peft_type", peft_type="LOHA")


@row("adapter: without its base")
def _(room):
    lora(room / "l", 1)
    return Case([room / "l"], None, Code.UNSUPPORTED_ADAPTER, "l", (Fraction(1),))


@row("adapter: of another base")
def _(room):
    zoo.save(room / "base", state(0))
    lora(room / "l", 1, name="model.layers.77.mlp.up_proj.weight")
    return Case(
        [room / "l"], None, Code.WRONG_TENSORS, "l: model.layers.77.mlp.up_proj.weight",
        (Fraction(1),), options={"reference": room / "base"},
    )  # fmt: skip


@row("a mixture of experts: raw names, by index, router included")
def _(room):
    block = "model.layers.0.block_sparse_moe"
    shapes = {f"{block}.experts.{i}.w1.weight": (4, 8) for i in range(11)}
    shapes[f"{block}.gate.weight"] = (11, 8)
    shapes["model.layers.1.mlp.experts.gate_up_proj"] = (5, 8, 6)  # fused in three dimensions
    return mixed(room, *(zoo.tensors(i, shapes=shapes) for i in range(2)))


@pytest.mark.parametrize("trap", ROWS)
def test_trap(trap, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case = ROWS[trap](tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    members = list(zip(case.members, case.weights, strict=True))

    def run():
        plan = plan_soup(members, **case.options)
        write_soup(plan, tmp_path / "out", threads=1, durable=False)

    if case.code is not None:
        with pytest.raises(Refused) as caught:
            run()
        assert (caught.value.code, caught.value.subject) == (case.code, case.subject)
        assert {path.name for path in tmp_path.iterdir()} == before
        return
    run()
    found = zoo.load(tmp_path / "out")
    wanted = reference.soup(case.truth, case.weights, case.dtype)
    assert {n: x.dtype for n, x in found.items()} == {n: x.dtype for n, x in wanted.items()}
    assert {n: x.shape for n, x in found.items()} == {n: x.shape for n, x in wanted.items()}
    assert {n: zoo.raw(x) for n, x in found.items()} == {n: zoo.raw(x) for n, x in wanted.items()}


def test_refusals_do_not_depend_on_the_order_of_members(tmp_path):
    """Nor do ties: one member without a head of its own is enough, whichever place it has."""
    untied = state(1)
    untied[HEAD] = untied[EMBED] * 2
    folders = pair(tmp_path, state(0), untied)
    for order in (folders, folders[::-1]):
        plan = plan_soup(list(zip(order, HALVES, strict=True)))
        with pytest.raises(Refused) as caught:
            write_soup(plan, tmp_path / "out", threads=1, durable=False)
        assert caught.value.subject == f"b: {HEAD}"


def test_identical_contents_under_two_names_make_no_recipe(tmp_path):
    one, two = pair(tmp_path, state(0), {n: x.float() for n, x in state(0).items()}, shards=(1, 2))
    members = tuple(Member(f.name, "", fingerprint(f), HALF) for f in (one, two))
    with pytest.raises(Refused) as caught:
        Recipe("base", "", "0" * 64, members)
    assert caught.value.code is Code.DUPLICATE_MEMBER


def test_output_header_is_aligned_and_says_pt(tmp_path):
    folders = pair(tmp_path, state(0), state(1))
    plan = plan_soup(list(zip(folders, HALVES, strict=True)))
    write_soup(plan, tmp_path / "out", threads=1, durable=False)
    raw = (tmp_path / "out/model.safetensors").read_bytes()
    n = int.from_bytes(raw[:8], "little")
    assert (8 + n) % 8 == 0
    assert json.loads(raw[8 : 8 + n])["__metadata__"] == {"format": "pt"}


def test_harmless_differences_are_remarked_upon(tmp_path):
    shapes = {**zoo.SHAPES, "model.layers.0.mlp.experts.3.w1.weight": (4, 4)}
    one, two = (zoo.tensors(i, shapes=shapes) for i in range(2))
    ids = ({**CONFIG, "eos_token_id": 1}, {**CONFIG, "eos_token_id": 7})
    donor, other = pair(tmp_path, one, two, ids)
    (donor / "chat_template.jinja").write_text("{{ messages }}")
    (other / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ evil }}"}))
    (other / "generation_config.json").write_text(json.dumps({"temperature": 3}))
    lora(tmp_path / "l", 1, base_model_name_or_path="org/other")
    (donor / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (other / "tokenizer.model").write_bytes(b"of another kind")
    bare = zoo.save(tmp_path / "bare", zoo.tensors(2, shapes=shapes))
    members = [(folder, Fraction(1, 4)) for folder in (donor, other, tmp_path / "l", bare)]
    plan = plan_soup(members, reference=donor)
    assert remarks(plan, donor=donor) == (
        "b: has no tokenizer to compare, its ids are taken on trust",
        "bare: has no config.json, so its settings are taken on trust",
        "bare: has no tokenizer to compare, its ids are taken on trust",
        "b: eos_token_id is 7, the soup keeps 1",
        "b: has another chat template, the soup keeps the donor's",
        "b: has other generation settings, the soup keeps the donor's",
        "experts are averaged by their index: right for fine-tunes of one base only",
        "l: an adapter, put on a; it names 'org/other' as its base",
    )
    # A folder of the cache is known by its repository, and then the adapter names what it lies on.
    named = plan_soup(members, reference=donor, names={donor: "me/other@" + "0" * 40})
    assert [line for line in remarks(named, donor=donor) if "adapter" in line] == []
