"""Random soups of everything that may go in, against the independent reference."""

import json
from fractions import Fraction
from math import sqrt

import checkpoints as zoo
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from merge.readers import content_digest
from merge.soup import plan_soup, write_soup

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
MATRICES = ("model.layers.0.mlp.up_proj.weight", "model.layers.10.self_attn.q_proj.weight")
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def shapes(draw):
    odd = draw(st.dictionaries(NAMES, st.lists(st.integers(0, 5), max_size=4).map(tuple)))
    odd = {name: shape for name, shape in odd.items() if name != "__metadata__"}
    rows, columns = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    found = {**odd, EMBED: (rows, 4), **dict.fromkeys(MATRICES, (rows, columns))}
    return {name: found[name] for name in draw(st.permutations(list(found)))}


def full(draw, folder, named, dtype=None, tie=True):
    """A checkpoint in any container. Returns what it effectively is, tied heads left out."""
    dtype = dtype or draw(st.sampled_from(list(DTYPES.values())))
    state = zoo.tensors(draw(st.integers(0, 10**6)), dtype, named, draw(st.sampled_from([0, 30])))
    state["buffer"] = torch.tensor([3, 1, 2])
    stored = dict(state)
    if tie and draw(st.booleans()):
        stored[HEAD] = stored[EMBED].clone()
    zoo.save(folder, stored, draw(st.integers(1, 3)))
    return state


def adapter(draw, folder, base):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    alpha, own, stabilised = draw(st.integers(1, 32)), draw(st.integers(1, 9)), draw(st.booleans())
    pairs, scales, halves = {}, {}, {}
    for name in draw(st.sampled_from([MATRICES, MATRICES[:1]])):
        rank, (rows, columns) = draw(st.integers(1, 9)), base[name].shape
        dtype = draw(st.sampled_from([torch.float32, torch.bfloat16]))
        a, b = (
            torch.randn(shape, generator=generator).mul(0.1).to(dtype)
            for shape in ((rank, columns), (rows, rank))
        )
        pairs[name] = a, b
        of = own if name == MATRICES[1] else alpha
        scales[name] = of / (sqrt(rank) if stabilised else rank)
        module = f"base_model.model.{name.removesuffix('.weight')}"
        halves |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
    folder.mkdir()
    save_file(halves, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "lora_alpha": alpha, "use_rslora": stabilised, "r": 8}
    config |= {"alpha_pattern": {"10.self_attn.q_proj": own}, "rank_pattern": {"q_proj": 3}}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return reference.applied(base, pairs, scales)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_soup_is_what_the_reference_says(data, tmp_path_factory):
    draw, root = data.draw, tmp_path_factory.mktemp("fuzz")
    named = shapes(draw)
    dtype = draw(st.sampled_from(list(DTYPES)))
    base = full(draw, root / "base", named, DTYPES[dtype], tie=False)
    kinds = draw(st.lists(st.sampled_from(["full", "adapter"]), max_size=4))
    states, folders = [], []
    if not kinds or draw(st.booleans()):
        states, folders = [base], [root / "base"]
    for i, kind in enumerate(kinds):
        folders.append(root / f"m{i}")
        made = (
            full(draw, folders[-1], named) if kind == "full" else adapter(draw, folders[-1], base)
        )
        states.append(made)
    many = draw(st.sampled_from([9, 400]))
    count = len(folders)
    parts = draw(st.lists(st.integers(0, many), min_size=count, max_size=count).filter(any))
    weights = [Fraction(part, sum(parts)) for part in parts]
    asked = draw(st.sampled_from([None, *DTYPES]))

    members = list(zip(folders, weights, strict=True))
    plan = plan_soup(members, reference=root / "base", dtype=asked)
    write_soup(
        plan, root / "out", threads=draw(st.integers(1, 3)), durable=False,
        window=draw(st.sampled_from([4096, 9000, 1 << 18])),
    )  # fmt: skip

    ranks = [content_digest(source) for source in plan.sources[:count]]
    order = sorted(range(count), key=lambda i: (ranks[i], parts[i]))
    wanted = reference.soup(
        [states[i] for i in order], [weights[i] for i in order], DTYPES[asked or dtype]
    )
    found = zoo.load(root / "out")
    assert {n: x.dtype for n, x in found.items()} == {n: x.dtype for n, x in wanted.items()}
    assert {n: zoo.raw(x) for n, x in found.items()} == {n: zoo.raw(x) for n, x in wanted.items()}
