"""One test per way in which merging goes silently wrong elsewhere.

Rows of NaN, weights, crashes, disk, determinism and verification are in test_soup.py, shard and
header traps in tests/hostile.
"""

import json
from fractions import Fraction
from pathlib import Path

import checkpoints as zoo
import pytest
import torch

from merge.errors import Code, Refused
from merge.soup import plan_soup, write_soup

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
HALVES = [Fraction(1, 2)] * 2
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-6}
TOKENIZER = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}}


def pair(tmp_path, one, two, configs=(None, None)):
    folders = []
    for name, state, config in zip("ab", (one, two), configs, strict=True):
        folders.append(zoo.save(tmp_path / name, state, config=config))
    return folders


def merged(folders, out, weights=HALVES, **options):
    write_soup(
        plan_soup(list(zip(folders, weights, strict=True)), **options), out,
        threads=1, durable=False,
    )  # fmt: skip
    return zoo.load(out)


def refusal(call, *arguments, **options):
    with pytest.raises(Refused) as caught:
        call(*arguments, **options)
    return caught.value.code, caught.value.subject


def state(seed=0, **extra):
    return {**zoo.tensors(seed), **extra}


def test_tied_in_all_stays_absent(tmp_path):
    folders = pair(tmp_path, state(0), state(1))
    assert HEAD not in merged(folders, tmp_path / "out")


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("explicit", [False, True])
def test_tied_in_one_present_and_equal_in_another(tmp_path, order, explicit):
    tied, spelt = state(0), state(1)
    spelt[HEAD] = spelt[EMBED].float()  # another container of the same values
    folders = pair(tmp_path, tied, spelt)
    options = {"reference": folders[0]} if explicit else {}
    found = merged(folders[::order], tmp_path / "out", **options)
    assert HEAD not in found
    assert torch.equal(found[EMBED], merged(folders, tmp_path / "again")[EMBED])


@pytest.mark.parametrize("order", [1, -1])
def test_tied_in_one_different_in_another(tmp_path, order):
    tied, untied = state(0), state(1)
    untied[HEAD] = untied[EMBED] * 2
    folders = pair(tmp_path, tied, untied)[::order]
    assert refusal(merged, folders, tmp_path / "out") == (Code.UNTIED_HEAD, f"b: {HEAD}")
    assert not (tmp_path / "out").exists()


def test_untied_reference_takes_the_tied_members_effective_head(tmp_path):
    untied, tied = state(0), state(1)
    untied[HEAD] = untied[EMBED] * 2
    folders = pair(tmp_path, untied, tied)
    found = merged(folders, tmp_path / "out", reference=folders[0])
    wanted = (untied[HEAD].double() + tied[EMBED].double()) / 2
    assert torch.equal(found[HEAD], wanted.to(torch.float32).bfloat16())


def test_head_absent_though_the_configuration_says_untied(tmp_path):
    full = state(0)
    full[HEAD] = full[EMBED] * 2
    configs = [{**CONFIG, "tie_word_embeddings": False}] * 2
    folders = pair(tmp_path, full, state(1), configs)
    assert refusal(plan_soup, list(zip(folders, HALVES, strict=True))) == (
        Code.WRONG_TENSORS,
        f"b: {HEAD}",
    )


def test_reference_says_tied_but_stores_a_head_of_its_own(tmp_path):
    config = {**CONFIG, "tie_word_embeddings": True}
    one, two = state(0), state(1)
    one[HEAD], two[HEAD] = one[EMBED].clone(), two[EMBED] * 2
    folders = pair(tmp_path, one, two, [config, config])
    code, subject = refusal(merged, folders, tmp_path / "out", reference=folders[0])
    assert (code, subject) == (Code.UNTIED_HEAD, f"b: {HEAD}")


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool, torch.uint8])
def test_integer_and_bool_buffers_are_copied_if_equal(tmp_path, dtype):
    buffer = torch.tensor([0, 1, 1, 0, 1]).to(dtype)
    folders = pair(tmp_path, state(0, mask=buffer), state(1, mask=buffer))
    assert torch.equal(merged(folders, tmp_path / "out")["mask"], buffer)


def test_different_buffers_are_refused(tmp_path):
    one, two = torch.tensor([1, 2]), torch.tensor([1, 3])
    folders = pair(tmp_path, state(0, steps=one), state(1, steps=two))
    code, subject = refusal(merged, folders, tmp_path / "out")
    assert (code, subject) == (Code.WRONG_BUFFERS, "b: steps")
    only_first = merged(folders, tmp_path / "one", [Fraction(1), Fraction(0)])
    assert torch.equal(only_first["steps"], one)


def test_rotary_buffers_are_copied_from_the_reference_or_dropped(tmp_path):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    freq = torch.rand(8)
    folders = pair(tmp_path, state(0, **{name: freq}), state(1))
    assert torch.equal(merged(folders, tmp_path / "a1", reference=folders[0])[name], freq)
    assert name not in merged(folders, tmp_path / "b1", reference=folders[1])
    assert name not in merged(folders, tmp_path / "none")
    assert name not in merged(folders[::-1], tmp_path / "none-turned")
    other = zoo.save(tmp_path / "other", state(2, **{name: freq * 2}))
    code, _ = refusal(merged, [folders[0], other], tmp_path / "out", reference=folders[0])
    assert code is Code.WRONG_BUFFERS


def test_extra_and_missing_tensors_are_refused_either_way_round(tmp_path):
    folders = pair(tmp_path, state(0), state(1, bias=torch.zeros(3)))
    for turned in (folders, folders[::-1]):
        code, subject = refusal(plan_soup, list(zip(turned, HALVES, strict=True)))
        assert code is Code.WRONG_TENSORS
        assert subject.endswith(": bias")


def test_transposed_shapes_are_refused(tmp_path):
    turned = state(1)
    turned[EMBED] = turned[EMBED].T.contiguous()
    folders = pair(tmp_path, state(0), turned)
    assert refusal(plan_soup, list(zip(folders, HALVES, strict=True))) == (
        Code.WRONG_SHAPES,
        f"b: {EMBED}",
    )


def test_fp8_codes_are_never_averaged(tmp_path):
    fp8 = {n: x.to(torch.float8_e4m3fn) for n, x in state(1).items()}
    folders = pair(tmp_path, state(0), fp8)
    assert refusal(plan_soup, list(zip(folders, HALVES, strict=True)))[0] is Code.QUANTISED
    both = pair(tmp_path / "x", fp8, fp8)
    assert refusal(plan_soup, list(zip(both, HALVES, strict=True)))[0] is Code.QUANTISED


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"rope_theta": 5e5}, Code.CONFIG_MISMATCH),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, Code.QUANTISED),
        ({"model_type": "qwen2"}, Code.OTHER_ARCHITECTURE),
        ({"final_logit_softcapping": 30.0}, Code.CONFIG_MISMATCH),
        ({"auto_map": {"AutoConfig": "x.Y"}}, Code.NEEDS_CODE),
    ],
)
def test_configurations_that_differ_in_the_mathematics_are_refused(tmp_path, change, code):
    folders = pair(tmp_path, state(0), state(1), [CONFIG, {**CONFIG, **change}])
    found, subject = refusal(plan_soup, list(zip(folders, HALVES, strict=True)))
    assert found is code
    assert subject.startswith("b: ")


def test_tokenizers_of_equal_size_but_other_content_are_refused(tmp_path):
    folders = pair(tmp_path, state(0), state(1))
    swapped = {"model": {**TOKENIZER["model"], "vocab": {"a": 1, "b": 0}}}
    for folder, value in zip(folders, (TOKENIZER, swapped), strict=True):
        (folder / "tokenizer.json").write_text(json.dumps(value))
    assert refusal(plan_soup, list(zip(folders, HALVES, strict=True)))[0] is Code.VOCAB_MISMATCH


def test_the_same_folder_twice_is_refused(tmp_path):
    one, _ = pair(tmp_path, state(0), state(1))
    again = tmp_path / "b" / ".." / "a"
    assert refusal(plan_soup, [(one, HALVES[0]), (again, HALVES[1])])[0] is Code.DUPLICATE_MEMBER


def test_mixed_containers_do_not_pass_through_a_narrow_one(tmp_path):
    """fp16 -> bf16 first would lose three bits before the sum."""
    one = {"w": torch.tensor([1 + 2.0**-9], dtype=torch.float16)}
    two = {"w": torch.tensor([1 + 2.0**-7], dtype=torch.bfloat16)}
    folders = pair(tmp_path, one, two)
    weights = [Fraction(9, 10), Fraction(1, 10)]
    found = merged(folders, tmp_path / "out", weights, dtype="float32")["w"].item()
    exact = Fraction(9, 10) * (1 + Fraction(1, 2**9)) + Fraction(1, 10) * (1 + Fraction(1, 2**7))
    assert found == torch.tensor(float(exact), dtype=torch.float32).item()


def test_a_mixture_of_experts_is_averaged_by_raw_names(tmp_path):
    shapes = {
        f"model.layers.0.block_sparse_moe.experts.{i}.w1.weight": (4, 8) for i in range(3)
    } | {"model.layers.0.block_sparse_moe.gate.weight": (3, 8)}
    one, two = zoo.tensors(0, shapes=shapes), zoo.tensors(1, shapes=shapes)
    found = merged(pair(tmp_path, one, two), tmp_path / "out")
    for name, x in found.items():
        mean = (one[name].double() + two[name].double()) / 2
        assert torch.equal(x, mean.float().bfloat16())


def test_output_header_is_aligned_and_says_pt(tmp_path):
    merged(pair(tmp_path, state(0), state(1)), tmp_path / "out")
    raw = (tmp_path / "out/model.safetensors").read_bytes()
    n = int.from_bytes(raw[:8], "little")
    assert (8 + n) % 8 == 0
    assert json.loads(raw[8 : 8 + n])["__metadata__"] == {"format": "pt"}


def test_adapter_files_beside_a_model_are_ignored(tmp_path):
    folders = pair(tmp_path, state(0), state(1))
    (folders[0] / "adapter_model.safetensors").write_bytes(b"junk")
    assert set(merged(folders, tmp_path / "out")) == set(zoo.SHAPES)


def test_pickles_are_never_opened(tmp_path):
    folder = tmp_path / "pickled"
    folder.mkdir()
    marker = tmp_path / "marker"
    payload = f"cos\nsystem\n(S'touch {marker}'\ntR.".encode()
    Path(folder / "pytorch_model.bin").write_bytes(payload)
    assert refusal(plan_soup, [(folder, Fraction(1))])[0] is Code.NO_SAFETENSORS
    assert not marker.exists()
