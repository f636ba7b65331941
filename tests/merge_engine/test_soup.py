"""Soups on disk: the definition, independence of everything that must not matter, honesty."""

import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from itertools import permutations
from pathlib import Path

import checkpoints as zoo
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merge import definition
from merge.compiled import VARIABLE
from merge.errors import Code, Refused
from merge.fingerprints import fingerprint
from merge.live import LiveSoup
from merge.mixer import Mixer
from merge.readers import Order
from merge.soup import check_disk, plan_soup, write_soup
from merge.verify import verify_soup

NAMES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}
DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def soup(members, out, **options):
    writing = {
        k: options.pop(k) for k in ("threads", "window", "extras", "progress") if k in options
    }
    plan = plan_soup(members, **options)
    report = write_soup(plan, out, **{"threads": 2, "durable": False, **writing})
    return {name: digest.sha256 for name, digest in report.files.items()}


def test_a_tensor_without_a_name_is_kept_beside_a_tied_embedding(tmp_path):
    states = [{"": torch.full((3,), x), "wte.weight": torch.full((4, 2), x)} for x in (1.0, 3.0)]
    folders = [tmp_path / "m0", tmp_path / "m1"]
    for folder, state in zip(folders, states, strict=True):
        zoo.save(folder, state)
    soup(list(zip(folders, fractions(1, 1), strict=True)), tmp_path / "out")
    assert zoo.load(tmp_path / "out")[""].tolist() == [2, 2, 2]


def fractions(*parts):
    return [Fraction(p, sum(parts)) for p in parts]


def expected(states, folders, weights, out_dtype):
    """Every tensor of the soup by the definition, members in the order of their digests."""
    denominator = np.lcm.reduce([w.denominator for w in weights])
    triples = zip(folders, states, weights, strict=True)
    ranked = sorted((fingerprint(f), s, int(w * denominator)) for f, s, w in triples if w)
    result = {}
    for name in states[0]:
        members = [definition.decode(zoo.raw(s[name]), NAMES[s[name].dtype]) for _, s, _ in ranked]
        values = definition.blend(members, [n for _, _, n in ranked], denominator)
        result[name] = definition.encode(values, out_dtype)
    return result


@given(data=st.data())
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_equals_the_definition(data, tmp_path_factory):
    root = tmp_path_factory.mktemp("soup")
    k = data.draw(st.integers(2, 5))
    parts = data.draw(st.lists(st.integers(0, 9), min_size=k, max_size=k).filter(any))
    if data.draw(st.booleans()):
        parts = data.draw(st.lists(st.integers(0, 400), min_size=k, max_size=k).filter(any))
    out_dtype = data.draw(st.sampled_from(["BF16", "F16", "F32"]))
    spread = data.draw(st.sampled_from([0, 8, 60]))
    states, folders = [], []
    for i in range(k):
        dtype = data.draw(st.sampled_from(list(NAMES)))
        states.append(zoo.tensors(data.draw(st.integers(0, 999)) * 10 + i, dtype, spread=spread))
        folders.append(zoo.save(root / f"m{i}", states[i], data.draw(st.integers(1, 3))))
    weights = fractions(*parts)
    soup(
        list(zip(folders, weights, strict=True)), root / "out", dtype=DTYPES[out_dtype],
        threads=data.draw(st.integers(1, 4)), window=data.draw(st.sampled_from([4096, 10**6])),
    )  # fmt: skip
    found = {name: zoo.raw(x) for name, x in zoo.load(root / "out").items()}
    assert found == expected(states, folders, weights, out_dtype)


def test_bytes_do_not_depend_on_threads_windows_order_or_sharding(tmp_path):
    """fp32 members over 60 binades, so that summing order really matters."""
    states = [zoo.tensors(i, torch.float32, spread=60) for i in range(3)]
    states[2]["z.first"] = -states[0]["z.first"]
    weights = fractions(1, 1, 1)
    seen = set()
    for n, (threads, window, shards) in enumerate([(1, 10**6, 1), (2, 4096, 3), (5, 9000, 2)]):
        folders = [zoo.save(tmp_path / f"{n}-m{i}", s, shards) for i, s in enumerate(states)]
        for m, order in enumerate(permutations(range(3))):
            members = [(folders[i], weights[i]) for i in order]
            out = tmp_path / f"{n}-out{m}"
            seen.add(json.dumps(soup(members, out, threads=threads, window=window)))
    assert len(seen) == 1


def test_order_of_digests_is_what_decides(tmp_path):
    """Sums that differ by order follow the digests, also when those are handed in."""
    values = [1.0, 2.0**-60, -1.0]
    states = [{"w": torch.full((4,), v, dtype=torch.float32)} for v in values]
    folders = [zoo.save(tmp_path / f"m{i}", s) for i, s in enumerate(states)]
    members = list(zip(folders, fractions(1, 1, 1), strict=True))
    results = set()
    for ranks in permutations("abc"):
        out = tmp_path / "".join(ranks)
        plan = plan_soup(members, digests=list(ranks))
        write_soup(plan, out, threads=1)
        found = zoo.load(out)["w"][0].item()
        ranked = [v for _, v in sorted(zip(ranks, values, strict=True))]
        assert found == np.float32((ranked[0] + ranked[1] + ranked[2]) / 3)
        results.add(found)
    assert len(results) == 2


def test_weight_one_copies_bytes_and_weight_zero_reads_nothing(tmp_path):
    states = [zoo.tensors(i, torch.bfloat16) for i in range(2)]
    states[0]["z.first"][:2] = torch.tensor([-0.0, 1e-40])
    states[1]["model.norm.weight"][3] = float("nan")
    one, two = (zoo.save(tmp_path / f"m{i}", s) for i, s in enumerate(states))
    plan = plan_soup([(one, Fraction(1)), (two, Fraction(0))])
    assert plan.input_bytes == sum(x.numel() * 2 for x in states[0].values())
    write_soup(plan, tmp_path / "out", threads=2)
    found = zoo.load(tmp_path / "out")
    assert {n: zoo.raw(x) for n, x in found.items()} == {
        n: zoo.raw(x) for n, x in states[0].items()
    }
    assert fingerprint(tmp_path / "out") == fingerprint(one)


def test_souping_is_linear_and_idempotent(tmp_path):
    """Mixing a and b, then that with c, on values where every step is exact."""
    generator = torch.Generator().manual_seed(0)
    states = [
        {"w": torch.randint(-64, 64, (999,), generator=generator).float() * 8} for _ in range(3)
    ]
    a, b, c = (zoo.save(tmp_path / f"m{i}", s) for i, s in enumerate(states))
    half, quarter = Fraction(1, 2), Fraction(1, 4)
    soup([(a, half), (b, half)], tmp_path / "ab")
    soup([(tmp_path / "ab", half), (c, half)], tmp_path / "nested")
    soup([(a, quarter), (b, quarter), (c, half)], tmp_path / "flat")
    assert fingerprint(tmp_path / "nested") == fingerprint(tmp_path / "flat")
    zoo.save(tmp_path / "twin", states[0])
    soup([(a, Fraction(3, 7)), (tmp_path / "twin", Fraction(4, 7))], tmp_path / "same")
    assert fingerprint(tmp_path / "same") == fingerprint(a)


def test_sharded_output_has_an_index_and_equal_tensors(tmp_path):
    states = [zoo.tensors(i) for i in range(2)]
    members = [(zoo.save(tmp_path / f"m{i}", s), Fraction(1, 2)) for i, s in enumerate(states)]
    soup(members, tmp_path / "whole")
    digests = soup(members, tmp_path / "parts", max_shard=2000)
    shards = [name for name in digests if name.endswith(".safetensors")]
    assert len(shards) > 2
    index = json.loads((tmp_path / "parts/model.safetensors.index.json").read_text())
    whole, parts = zoo.load(tmp_path / "whole"), zoo.load(tmp_path / "parts")
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in whole.values())
    assert set(index["weight_map"]) == set(whole) == set(parts)
    assert all(torch.equal(whole[n], parts[n]) for n in whole)
    assert fingerprint(tmp_path / "parts") == fingerprint(tmp_path / "whole")


def test_reported_digests_sizes_and_progress_are_true(tmp_path):
    members = [(zoo.save(tmp_path / f"m{i}", zoo.tensors(i)), Fraction(1, 2)) for i in range(2)]
    steps = []
    plan = plan_soup(members, max_shard=2000)
    (tmp_path / "long").write_bytes(bytes(3_000_000))
    report = write_soup(
        plan, tmp_path / "out", threads=3, window=4096,
        extras={"config.json": b"{}", "tokenizer.json": tmp_path / "long"},
        progress=lambda done, total: steps.append((done, total)),
    )  # fmt: skip
    on_disk = {
        p.name: (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_size)
        for p in (tmp_path / "out").iterdir()
    }
    assert {n: (d.sha256, d.size) for n, d in report.files.items()} == on_disk
    assert (on_disk["config.json"][1], on_disk["tokenizer.json"][1]) == (2, 3_000_000)
    assert sum(size for _, size in on_disk.values()) == plan.output_bytes + 3_000_002
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]
    quiet = write_soup(plan, tmp_path / "quiet", hash=False, verify=False, threads=1)
    assert {d.sha256 for d in quiet.files.values()} == {None}
    assert not list(tmp_path.glob(".*.partial"))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "vocab.json"])
def test_texts_that_change_while_weights_are_written_are_not_taken(tmp_path, name):
    members = [(zoo.save(tmp_path / f"m{i}", zoo.tensors(i)), Fraction(1, 2)) for i in range(2)]
    text = tmp_path / "m0" / name
    text.write_text("{}")
    plan = plan_soup(members)

    def change(done, total):
        text.write_text('{"auto_map": {}}')

    with pytest.raises(Refused, match=f"changed: m0: {name}"):
        write_soup(plan, tmp_path / "out", extras={name: text}, progress=change)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m0", "m1"]


@pytest.mark.parametrize("broken", [0, 1])
def test_a_buffer_that_is_no_number_is_refused(tmp_path, broken):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    states = [{**zoo.tensors(i), name: torch.ones(8)} for i in range(2)]
    states[broken][name][3] = float("nan")
    members = [(zoo.save(tmp_path / f"m{i}", s), Fraction(1, 2)) for i, s in enumerate(states)]
    code = Code.NON_FINITE if broken == 0 else Code.WRONG_BUFFERS
    with pytest.raises(Refused) as caught:
        soup(members, tmp_path / "out", reference=tmp_path / "m0")
    assert (caught.value.code, caught.value.subject) == (code, f"m{broken}: {name}")


def test_without_a_descriptor_nothing_is_left(tmp_path):
    plan = plan_soup([(zoo.save(tmp_path / "m", zoo.tensors(0)), Fraction(1))])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            write_soup(plan, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_file_to_be_copied_is_no_link_and_its_name_no_path(tmp_path):
    plan = plan_soup([(zoo.save(tmp_path / "m", zoo.tensors(0)), Fraction(1))])
    (tmp_path / "text").write_text("{}")
    (tmp_path / "link").symlink_to("text")
    with pytest.raises(Refused, match="unsafe-file: link: is a link"):
        write_soup(plan, tmp_path / "out", extras={"config.json": tmp_path / "link"})
    with pytest.raises(ValueError, match="not a plain file name"):
        write_soup(plan, tmp_path / "out", extras={"../config.json": tmp_path / "text"})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "m", "text"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("weights", [(1, 1), (1, 0)])
def test_non_finite_inputs_name_tensor_and_member(tmp_path, bad, weights):
    states = [zoo.tensors(i) for i in range(2)]
    states[0]["model.layers.2.mlp.up_proj.weight"][40, 3] = bad
    members = [
        (zoo.save(tmp_path / f"member{i}", s), w)
        for i, (s, w) in enumerate(zip(states, fractions(*weights), strict=True))
    ]
    with pytest.raises(Refused) as caught:
        soup(members, tmp_path / "out")
    assert caught.value.code is Code.NON_FINITE
    assert caught.value.subject == "member0: model.layers.2.mlp.up_proj.weight"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["member0", "member1"]


def test_infinity_born_in_the_soup_is_refused(tmp_path):
    states = [{"w": torch.tensor([6e4, 1.0], dtype=torch.float16)}, {"w": torch.zeros(2).half()}]
    members = [
        (zoo.save(tmp_path / f"m{i}", s), w)
        for i, (s, w) in enumerate(zip(states, (Fraction(3), Fraction(-2)), strict=True))
    ]
    with pytest.raises(Refused, match="negative"):
        plan_soup(members)
    with pytest.raises(Refused) as caught:
        soup(members, tmp_path / "out", allow_negative=True)
    assert (caught.value.code, caught.value.subject) == (Code.NON_FINITE, "soup: w")
    soup(members, tmp_path / "wide", allow_negative=True, dtype="bfloat16")
    wanted = torch.tensor([180_000.0, 3.0]).bfloat16()
    assert torch.equal(zoo.load(tmp_path / "wide")["w"], wanted)


def test_output_dtype_is_asked_or_the_references_or_the_narrowest_that_holds_all(tmp_path):
    kinds = [torch.bfloat16, torch.float16]
    one, two = (zoo.save(tmp_path / str(d), zoo.tensors(i, d)) for i, d in enumerate(kinds))
    members = [(one, Fraction(1, 2)), (two, Fraction(1, 2))]
    for options, wanted in [
        ({}, torch.float32),
        ({"reference": one}, torch.bfloat16),
        ({"reference": two}, torch.float16),
        ({"reference": two, "dtype": "bfloat16"}, torch.bfloat16),
    ]:
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        soup(members, out, **options)
        assert {x.dtype for x in zoo.load(out).values()} == {wanted}


def test_damage_after_writing_is_found(tmp_path):
    members = [(zoo.save(tmp_path / f"m{i}", zoo.tensors(i)), Fraction(1, 2)) for i in range(2)]
    plan = plan_soup(members)
    write_soup(plan, tmp_path / "out", threads=1)
    order = Order(plan.sources)
    verify_soup(plan, tmp_path / "out", order)
    path = tmp_path / "out/model.safetensors"
    good = path.read_bytes()
    position = plan.jobs[1].out.begin + 100
    path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
    with pytest.raises(Refused) as caught:
        verify_soup(plan, tmp_path / "out", order)
    assert caught.value.code is Code.VERIFY_FAILED
    path.write_bytes(good.replace(b'"z.first"', b'"y.first"'))
    with pytest.raises(Refused, match="header"):
        verify_soup(plan, tmp_path / "out", order)


def test_a_sum_in_another_order_than_that_of_the_digests_does_not_pass(tmp_path):
    """2^60 - 2^60 + 1 is 1 in this order, 0 where the small one comes second."""
    for name, value in [("big", 2.0**60), ("less", -(2.0**60)), ("one", 1.0)]:
        zoo.save(tmp_path / name, {"w": torch.full((4,), value)})
    members = [(tmp_path / name, Fraction(1, 3)) for name in ("big", "less", "one")]
    ranks = {"big, less, one": "abc", "big, one, less": "acb"}
    plans = {k: plan_soup(members, digests=[d * 64 for d in v]) for k, v in ranks.items()}
    for name, plan in plans.items():
        write_soup(plan, tmp_path / name, threads=1)
    for name, plan in plans.items():
        for other in plans:
            if other == name:
                verify_soup(plan, tmp_path / other, Order(plan.sources))
                continue
            with pytest.raises(Refused, match="differ when recomputed"):
                verify_soup(plan, tmp_path / other, Order(plan.sources))


def test_inputs_cut_short_after_the_plan_are_noticed(tmp_path):
    folder = zoo.save(tmp_path / "m", zoo.tensors(0))
    plan = plan_soup([(folder, Fraction(1))])
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Refused) as caught:
        write_soup(plan, tmp_path / "out")
    assert caught.value.code is Code.CHANGED
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_member_replaced_since_the_plan_is_named_though_its_size_is_the_same(tmp_path, when):
    members = [(zoo.save(tmp_path / f"m{i}", zoo.tensors(i)), Fraction(1, 2)) for i in range(2)]
    other = zoo.save(tmp_path / "other", zoo.tensors(2)) / "model.safetensors"
    os.utime(other, ns=(1, 1))  # else both may have been written within one tick of the clock
    plan = plan_soup(members)

    def replace(*_):
        if other.exists():
            other.rename(members[1][0] / "model.safetensors")

    if when == "before":
        replace()
    with pytest.raises(Refused) as caught:
        write_soup(plan, tmp_path / "out", threads=1, progress=replace)
    assert (caught.value.code, caught.value.subject) == (Code.CHANGED, "m1: model.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m0", "m1", "other"]


@pytest.mark.parametrize("kernel", ["torch", ""])
@pytest.mark.parametrize("weights", [(Fraction(1, 3), Fraction(2, 3)), (Fraction(-1), Fraction(2))])
def test_sums_that_leave_float64_are_refused(tmp_path, monkeypatch, kernel, weights):
    """A product may, where the quotient would not."""
    monkeypatch.setenv(VARIABLE, kernel)
    states = [{"w": torch.tensor([1.7e308, x], dtype=torch.float64)} for x in (1.0, 2.0)]
    folders = [zoo.save(tmp_path / f"m{i}", s) for i, s in enumerate(states)]
    members = list(zip(folders, weights, strict=True))
    with pytest.raises(Refused) as caught:
        soup(members, tmp_path / "out", allow_negative=True)
    assert (caught.value.code, caught.value.subject) == (Code.NON_FINITE, "soup: w")
    model = torch.nn.Module()
    model.register_buffer("w", torch.zeros(2, dtype=torch.float64))
    live = LiveSoup(model, folders, threads=1)
    live.write([Fraction(1), Fraction(0)])
    live.write([Fraction(0), Fraction(1)])  # the ranges of both are known from here on
    with pytest.raises(Refused, match="soup: w"):
        live.write(weights, allow_negative=True)


def test_numerators_stay_whole_numbers_of_float64(tmp_path):
    folders = [zoo.save(tmp_path / f"m{i}", zoo.tensors(i)) for i in range(2)]
    large = Fraction(10**18 - 1, 10)
    with pytest.raises(Refused, match="numerators"):
        plan_soup(list(zip(folders, (large, 1 - large), strict=True)), allow_negative=True)


def test_writers_that_race_end_with_one_soup_and_typed_refusals(tmp_path):
    plan = plan_soup([(zoo.save(tmp_path / "m", zoo.tensors(0)), Fraction(1))])
    for n in range(40):
        ends = []

        def work(out=tmp_path / f"out{n}", ends=ends):
            try:
                ends.append(write_soup(plan, out, threads=1, verify=False, durable=False))
            except Refused as refused:
                ends.append(refused.code)

        writers = [threading.Thread(target=work) for _ in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        refusals = [end for end in ends if isinstance(end, Code)]
        assert len(ends) == 4
        assert len(refusals) == 3
        assert set(refusals) <= {Code.BUSY, Code.OUTPUT_EXISTS}


def test_random_numbers_of_the_caller_are_left_alone(tmp_path):
    members = [(zoo.save(tmp_path / "m", zoo.tensors(0)), Fraction(1))]
    before = random.getstate()
    soup(members, tmp_path / "out")
    assert random.getstate() == before


def test_disk_is_checked_before_anything_is_written(tmp_path):
    """A sparse member of 2^50 bytes: the plan costs nothing, the output does not fit."""
    folder = tmp_path / "m"
    folder.mkdir()
    size = 2**42
    entry = {"w": {"dtype": "BF16", "shape": [size // 2], "data_offsets": [0, size]}}
    header = json.dumps(entry).encode()
    with open(folder / "model.safetensors", "wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        try:
            stream.truncate(8 + len(header) + size)
        except OSError:
            pytest.skip("no sparse files of that size here")
    plan = plan_soup([(folder, Fraction(1))])
    for refuse in (check_disk, write_soup):
        with pytest.raises(Refused) as caught:
            refuse(plan, tmp_path / "out")
        assert caught.value.code is Code.DISK_FULL
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_existing_output_is_kept(tmp_path):
    folder = zoo.save(tmp_path / "m", zoo.tensors(0))
    (tmp_path / "out").mkdir()
    soup([(folder, Fraction(1))], tmp_path / "out")
    with pytest.raises(Refused) as caught:
        soup([(folder, Fraction(1))], tmp_path / "out")
    assert caught.value.code is Code.OUTPUT_EXISTS


def test_what_is_in_the_way_of_the_unfinished_soup_is_named_and_kept(tmp_path):
    members = [(zoo.save(tmp_path / "m", zoo.tensors(0)), Fraction(1))]
    left = tmp_path / ".out.partial"

    def refused(named):
        with pytest.raises(Refused) as caught:
            soup(members, tmp_path / "out")
        assert (caught.value.code, caught.value.subject) == (Code.OUTPUT_EXISTS, str(named))

    left.write_text("mine")
    refused(left)
    assert left.read_text() == "mine"
    left.unlink()
    (tmp_path / "other").mkdir()
    left.symlink_to(tmp_path / "other")
    refused(left)
    assert left.is_symlink()
    left.unlink()
    (left / "inside").mkdir(parents=True)
    (left / "note").write_text("mine")
    refused(left / "inside")
    assert (left / "note").read_text() == "mine"
    (left / "inside").rmdir()
    soup(members, tmp_path / "out")


def test_too_long_a_name_is_refused(tmp_path):
    plan = plan_soup([(zoo.save(tmp_path / "m", zoo.tensors(0)), Fraction(1))])
    for look in (write_soup, check_disk):
        with pytest.raises(Refused) as caught:
            look(plan, tmp_path / ("n" * 250))
        assert caught.value.code is Code.UNSAFE_FILE
        assert "too long" in caught.value.detail
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_two_writers_do_not_meet(tmp_path):
    folder = zoo.save(tmp_path / "m", zoo.tensors(0))
    plan = plan_soup([(folder, Fraction(1))])
    inside, leave = threading.Event(), threading.Event()

    def stop(done, total):
        inside.set()
        assert leave.wait(20)

    first = threading.Thread(
        target=write_soup, args=(plan, tmp_path / "out"), kwargs={"progress": stop, "threads": 1}
    )
    first.start()
    assert inside.wait(20)
    with pytest.raises(Refused) as caught:
        write_soup(plan, tmp_path / "out")
    assert caught.value.code is Code.BUSY
    leave.set()
    first.join()
    assert fingerprint(tmp_path / "out") == fingerprint(folder)


@pytest.mark.parametrize("threads", [1, 2])
def test_no_more_threads_compute_than_asked(tmp_path, monkeypatch, threads):
    members = [(zoo.save(tmp_path / f"m{i}", zoo.tensors(i)), Fraction(1, 2)) for i in range(2)]
    compute, inside, most = Mixer.compute, [], []

    def counted(*arguments):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.002)
        compute(*arguments)
        inside.pop()

    monkeypatch.setattr(Mixer, "compute", counted)
    soup(members, tmp_path / "out", threads=threads, window=4096)
    assert max(most) == threads


def test_a_link_in_place_of_the_output_is_kept(tmp_path):
    folder = zoo.save(tmp_path / "m", zoo.tensors(0))
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Refused) as caught:
        soup([(folder, Fraction(1))], tmp_path / "out")
    assert caught.value.code is Code.OUTPUT_EXISTS


def test_a_failing_progress_callback_ends_the_run(tmp_path):
    folder = zoo.save(tmp_path / "m", zoo.tensors(0))

    def fail(done, total):
        raise RuntimeError("display gone")

    with pytest.raises(RuntimeError, match="display gone"):
        soup([(folder, Fraction(1))], tmp_path / "out", threads=4, window=4096, progress=fail)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


KILLED = """
import sys, time
from fractions import Fraction
from pathlib import Path
from merge.soup import plan_soup, write_soup
root = Path(sys.argv[1])
plan = plan_soup([(root / "m0", Fraction(1, 2)), (root / "m1", Fraction(1, 2))])
print("go", flush=True)
write_soup(plan, root / "out", threads=2, window=4096, progress=lambda *_: time.sleep(0.001))
"""


def test_sigkill_leaves_nothing_that_looks_finished(tmp_path):
    shapes = {f"w{i}": (200, 100) for i in range(10)}
    for i in range(2):
        zoo.save(tmp_path / f"m{i}", zoo.tensors(i, shapes=shapes))
    for n in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, tmp_path], cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
        )  # fmt: skip
        child.stdout.readline()
        time.sleep(0.03 * n)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert not (tmp_path / "out").exists()
    members = [(tmp_path / f"m{i}", Fraction(1, 2)) for i in range(2)]
    after = soup(members, tmp_path / "out")
    assert after == soup(members, tmp_path / "calm")
    assert not list(tmp_path.glob(".*"))


MEMORY = """
import torch
root = Path(sys.argv[1])
plan = merge.soup.plan_soup([(root / f"m{i}", Fraction(1, 4)) for i in range(4)])
texts = {"tokenizer.model": root / "text"}
merge.soup.write_soup(plan, root / "out", threads=2, durable=False, extras=texts)
"""


def test_private_memory_stays_below_300_mb(tmp_path):
    for i in range(4):
        zoo.save(tmp_path / f"m{i}", zoo.tensors(i, shapes={"w": (16_000_000,)}))
    with open(tmp_path / "text", "wb") as file:
        file.truncate(300_000_000)
    assert zoo.private_memory(MEMORY, tmp_path)[0] < 300_000_000
