"""Fingerprints follow values, not files; health names what is wrong; sketches find near-clones."""

import json
from dataclasses import asdict
from pathlib import Path

import checkpoints as zoo
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from merge.errors import Code, Refused
from merge.fingerprints import SKETCH, canonical, examine, fingerprint, similarity

BIG = {"model.embed_tokens.weight": (512, 64), "w": (700, 512), "model.norm.weight": (64,)}


def test_does_not_change_with_sharding_order_or_container(tmp_path):
    state = zoo.tensors(1, torch.bfloat16, shapes=BIG)
    head = {"lm_head.weight": state["model.embed_tokens.weight"].clone()}
    same = [
        zoo.save(tmp_path / "one", state),
        zoo.save(tmp_path / "sharded", state, shards=3),
        zoo.save(tmp_path / "reversed", dict(reversed(state.items())), shards=2),
        zoo.save(tmp_path / "wide", {n: x.float() for n, x in state.items()}),
        zoo.save(tmp_path / "wider", {n: x.double() for n, x in state.items()}),
        zoo.save(tmp_path / "head", state | head),
        zoo.save(tmp_path / "inv", {**state, "rotary_emb.inv_freq": torch.ones(4)}),
    ]
    assert len({fingerprint(folder) for folder in same}) == 1


def test_changes_with_any_value_name_or_shape(tmp_path):
    state = zoo.tensors(1, torch.bfloat16, shapes=BIG)
    flipped = {**state, "w": state["w"].clone()}
    flipped["w"].view(torch.int16)[699, 511] ^= 1
    signed = {**state, "model.norm.weight": state["model.norm.weight"].clone()}
    signed["model.norm.weight"][0] = 0.0
    negative = {**signed, "model.norm.weight": signed["model.norm.weight"].clone()}
    negative["model.norm.weight"][0] = -0.0
    others = [
        state,
        flipped,
        signed,
        negative,
        {"v" if n == "w" else n: x for n, x in state.items()},
        {n: x.T.contiguous() if n == "w" else x for n, x in state.items()},
        {n: x.reshape(512, 700) if n == "w" else x for n, x in state.items()},
        {**state, "lm_head.weight": state["model.embed_tokens.weight"] * 2},
    ]
    digests = {fingerprint(zoo.save(tmp_path / f"{i}", s)) for i, s in enumerate(others)}
    assert len(digests) == len(others)


@given(st.lists(st.floats(width=16), max_size=20), st.sampled_from(["f2", "f4", "f8"]))
def test_containers_of_half_precision_values_agree(values, kind):
    raw = np.array(values, "<f2")
    name = {"f2": "F16", "f4": "F32", "f8": "F64"}[kind]
    finite = raw[np.isfinite(raw)]
    assert canonical(finite.astype(f"<{kind}").tobytes(), name) == canonical(
        finite.tobytes(), "F16"
    )


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=20))
def test_canonical_form_loses_nothing(values):
    raw = np.array(values, "<f4")
    kind, narrow = canonical(raw.tobytes(), "F32")
    dtype = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}[kind]
    back = torch.frombuffer(bytearray(narrow), dtype=dtype) if narrow else torch.empty(0)
    assert zoo.raw(back.float()) == raw.tobytes()


def test_health_of_a_fine_tune(tmp_path):
    base = zoo.tensors(1, torch.bfloat16, shapes=BIG)
    tuned = {n: x.float() for n, x in base.items()}
    tuned["w"] = tuned["w"] * 3
    health = examine(zoo.save(tmp_path / "tuned", tuned), zoo.save(tmp_path / "base", base))
    assert health.non_finite == ()
    assert health.norm_ratio_max == ("w", pytest.approx(3))
    assert health.norm_ratio_min[1] == pytest.approx(1)
    squares = {n: x.double().square().sum().item() for n, x in base.items()}
    assert health.delta_norm == pytest.approx((4 * squares["w"] / sum(squares.values())) ** 0.5)
    assert health.fingerprint == fingerprint(tmp_path / "tuned")
    assert len(health.sketch) == SKETCH
    json.dumps(asdict(health), allow_nan=False)


def test_identical_to_base(tmp_path):
    base = zoo.tensors(1, shapes=BIG)
    health = examine(zoo.save(tmp_path / "a", base), zoo.save(tmp_path / "b", base))
    assert health.delta_norm == 0
    assert set(health.sketch) == {0.0}


def test_non_finite_tensors_are_all_named(tmp_path):
    base = zoo.tensors(1, torch.bfloat16)
    bad = {n: x.clone() for n, x in base.items()}
    bad["model.norm.weight"][0] = float("nan")
    bad["a.scalar"].fill_(float("-inf"))
    health = examine(zoo.save(tmp_path / "bad", bad), zoo.save(tmp_path / "base", base))
    assert health.non_finite == ("a.scalar", "model.norm.weight")
    json.dumps(asdict(health), allow_nan=False)


def test_near_clones_lie_close_and_siblings_far(tmp_path):
    base = zoo.tensors(0, torch.float32, shapes=BIG)
    delta = zoo.tensors(1, torch.float32, shapes=BIG)
    other = zoo.tensors(2, torch.float32, shapes=BIG)
    noise = zoo.tensors(3, torch.float32, shapes=BIG)
    zoo.save(tmp_path / "base", base)

    def sketch(name, **parts):
        state = {n: x + 0.1 * sum(w * p[n] for p, w in parts.values()) for n, x in base.items()}
        return examine(zoo.save(tmp_path / name, state), tmp_path / "base").sketch

    one = sketch("one", a=(delta, 1))
    assert similarity(one, sketch("clone", a=(delta, 1), b=(noise, 0.05))) > 0.99
    assert similarity(one, sketch("half", a=(delta, 1), b=(noise, 1))) == pytest.approx(
        0.7, abs=0.2
    )
    assert abs(similarity(one, sketch("sibling", a=(other, 1)))) < 0.4
    assert similarity(one, sketch("opposite", a=(delta, -1))) == pytest.approx(-1, abs=1e-3)


def test_other_models_are_refused(tmp_path):
    base = zoo.save(tmp_path / "base", zoo.tensors(0))
    other = zoo.save(tmp_path / "other", zoo.tensors(0, shapes=BIG))
    with pytest.raises(Refused) as caught:
        examine(other, base)
    assert caught.value.code is Code.WRONG_TENSORS


def test_no_public_name_is_that_of_a_submodule():
    """A submodule, once imported, would hide it."""
    import merge

    modules = {file.stem for file in Path(merge.__file__).parent.glob("*.py")}
    assert modules & set(merge.__all__) == set()
    assert merge.fingerprint is fingerprint


def test_buffers_of_integers_are_held_against_the_base(tmp_path):
    mask = torch.tensor([1, 2, 3])
    base = {**zoo.tensors(0), "mask": mask, "flags": mask > 1}
    zoo.save(tmp_path / "base", base)
    other = {**zoo.tensors(1), "mask": mask, "flags": mask > 2}
    for name, state, unequal in [
        ("same", {**other, "flags": mask > 1}, ()),
        ("other", other, ("flags",)),
    ]:
        zoo.save(tmp_path / name, state)
        assert examine(tmp_path / name, tmp_path / "base").unequal == unequal
