"""Whatever the process has done to rounding and subnormals, a soup has its defined bytes."""

from __future__ import annotations

import ctypes
import json
import platform
from contextlib import contextmanager
from fractions import Fraction
from functools import partial

import checkpoints as zoo
import pytest
import torch
from safetensors.torch import save_file

from merge import compiled
from merge.arithmetic import plain_arithmetic
from merge.errors import Refused
from merge.fingerprints import examine
from merge.live import LiveSoup
from merge.readers import content_digest
from merge.soup import plan_soup, write_soup

WEIGHTS = [Fraction(n, 7) for n in (1, 1, 2, 3)]
C = ctypes.CDLL(None)
UP, TO_ZERO = 0x800, 0xC00
"""<fenv.h> on x86."""
KERNELS = [
    "torch",
    pytest.param("compiled", marks=pytest.mark.skipif(not compiled.load(), reason="not built")),
]


@contextmanager
def flushing():
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def rounding(way):
    if platform.machine() != "x86_64":
        pytest.skip("ways of rounding have other numbers than on x86")
    assert C.fesetround(way) == 0
    try:
        yield
    finally:
        C.fesetround(0)


SETTINGS = {
    "flushed": flushing,
    "rounded up": partial(rounding, UP),
    "rounded to zero": partial(rounding, TO_ZERO),
}


def with_subnormals(seed, dtype):
    state = zoo.tensors(seed, dtype)
    for tensor in state.values():
        if tensor.numel() > 8:
            tensor.view(-1)[:8] = torch.arange(1 + seed, 9 + seed) * 2.0**-133
    return state


@pytest.fixture(scope="module", params=[torch.bfloat16, torch.float32], ids=str)
def members(request, tmp_path_factory):
    """Three members, and an adapter whose product counts although one factor is subnormal."""
    root = tmp_path_factory.mktemp("members")
    for i in range(3):
        zoo.save(root / f"m{i}", with_subnormals(i, request.param))
    halves = {"A": torch.full((4, 16), 1e-39), "B": torch.full((48, 4), 1e6)}
    prefix = "base_model.model.model.layers.0.mlp.up_proj.lora"
    (root / "adapter").mkdir()
    save_file(
        {f"{prefix}_{half}.weight": x.to(request.param) for half, x in halves.items()},
        root / "adapter" / "adapter_model.safetensors",
    )
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["up_proj"]}
    (root / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    return [root / "m0", root / "m1", root / "m2", root / "adapter"]


def everything(members, out):
    """Bytes on the disk and in a model, every digest, and what an examination finds."""
    plan = plan_soup(list(zip(members, WEIGHTS, strict=True)), reference=members[0])
    write_soup(plan, out)
    model = zoo.module_of(zoo.load(out))
    for parameter in model.parameters():
        parameter.data.zero_()
    LiveSoup(model, members, reference=members[0]).write(WEIGHTS)
    live = {name: zoo.raw(tensor) for name, tensor in model.state_dict().items()}
    digests = [content_digest(source) for source in plan.sources]
    return (
        {n: zoo.raw(x) for n, x in zoo.load(out).items()},
        live,
        digests,
        examine(*members[1::-1]),
    )


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_bytes_are_the_same(members, kernel, setting, tmp_path, monkeypatch):
    monkeypatch.setenv(compiled.VARIABLE, kernel)
    plain = everything(members, tmp_path / "plain")
    assert plain[0] == plain[1]
    with SETTINGS[setting]():
        assert everything(members, tmp_path / "other") == plain


def test_a_head_that_differs_by_a_subnormal_number_is_not_tied(tmp_path):
    state = zoo.tensors(0, shapes={"model.embed_tokens.weight": (5, 4)})
    head = state["model.embed_tokens.weight"].clone()
    state["model.embed_tokens.weight"][0, 0], head[0, 0] = 0, 1e-39
    config = {"tie_word_embeddings": True, "model_type": "llama"}
    one = zoo.save(tmp_path / "one", {**state, "lm_head.weight": head}, config=config)
    plan = plan_soup([(one, Fraction(1))], reference=one)
    with flushing(), pytest.raises(Refused, match="untied-head"):
        write_soup(plan, tmp_path / "out")


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_the_caller_has_set_is_there_again(setting):
    def computed():
        tiny, third = torch.tensor([1e-40]), torch.tensor([1.0]) / 3
        return (tiny * 1).item(), third.item(), (-third).item()

    plain = computed()
    with SETTINGS[setting]():
        other = computed()
        with plain_arithmetic():
            assert computed() == plain
        assert computed() == other
        with pytest.raises(ZeroDivisionError), plain_arithmetic():
            raise ZeroDivisionError
        assert computed() == other
    assert plain != other
