"""The live soup is the exported soup, byte for byte, in a real transformers model."""

import json
from fractions import Fraction

import checkpoints as zoo
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from merge.errors import Code, Refused
from merge.live import LiveSoup
from merge.soup import plan_soup, write_soup

GRID = [(4, 3, 3), (10, 0, 0), (1, 9, 0), (0, 5, 5)]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]


def config(**changes):
    return LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=101, max_position_embeddings=64, **changes,
    )  # fmt: skip


def llama(seed, **changes):
    torch.manual_seed(seed)
    return LlamaForCausalLM(config(**changes))


@pytest.fixture
def family(tmp_path):
    folders = []
    for i, dtype in enumerate([torch.bfloat16, torch.float32, torch.bfloat16]):
        folders.append(tmp_path / f"m{i}")
        llama(i, tie_word_embeddings=True).to(dtype).save_pretrained(folders[-1])
    return folders


def export(folders, weights, out, dtype):
    plan = plan_soup(list(zip(folders, weights, strict=True)), dtype=dtype)
    write_soup(plan, out, threads=1, durable=False)
    return {name: zoo.raw(x) for name, x in zoo.load(out).items()}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float16"])
def test_live_equals_exported(family, tmp_path, dtype, device):
    model = llama(9, tie_word_embeddings=True).to(getattr(torch, dtype)).to(device)
    storage = {name: p.data_ptr() for name, p in model.named_parameters()}
    live = LiveSoup(model, family, threads=2, block=1024)
    for n, parts in enumerate(GRID):
        weights = [Fraction(p, 10) for p in parts]
        live.write(weights)
        wanted = export(family, weights, tmp_path / f"out{n}", dtype)
        found = {name: zoo.raw(p.detach().cpu()) for name, p in model.named_parameters()}
        assert found == wanted
    assert storage == {name: p.data_ptr() for name, p in model.named_parameters()}
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert all(p.requires_grad for p in model.parameters())


def test_members_whose_tensors_lie_at_odd_offsets(family, tmp_path):
    odd = [zoo.save_unaligned(tmp_path / f"odd{i}", zoo.load(f)) for i, f in enumerate(family)]
    weights = [Fraction(1, 5), Fraction(3, 5), Fraction(1, 5)]
    found = []
    for members in (family, odd):
        model = llama(9, tie_word_embeddings=True).bfloat16()
        LiveSoup(model, members, threads=2, block=1000).write(weights)
        found.append({name: zoo.raw(p.detach()) for name, p in model.named_parameters()})
    assert found[0] == found[1]


def test_what_is_remembered_of_a_block_is_not_taken_for_a_longer_one(tmp_path):
    """Blocks of an adapted matrix hold whole rows: 1,023 elements, without the adapter 1,024."""
    spoilt = torch.ones(342, 3)
    spoilt.view(-1)[1023] = float("nan")
    folders = [tmp_path / name for name in ("spoilt", "sound", "adapter")]
    zoo.save(folders[0], {"w.weight": spoilt})
    zoo.save(folders[1], {"w.weight": torch.full((342, 3), 2.0)})
    folders[2].mkdir()
    halves = {"A": torch.ones(100, 3), "B": torch.ones(342, 100)}
    state = {f"base_model.model.w.lora_{half}.weight": x for half, x in halves.items()}
    save_file(state, folders[2] / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 100, "lora_alpha": 1, "target_modules": ["w"]}
    (folders[2] / "adapter_config.json").write_text(json.dumps(settings))
    model = nn.Module()
    model.w = nn.Linear(3, 342, bias=False)
    live = LiveSoup(model, folders, reference=folders[0], threads=1, block=1024)
    half = Fraction(1, 2)
    for weights in [(half, 0 * half, half), (half, half, 0 * half)]:
        with pytest.raises(Refused) as caught:
            live.write(weights)
        assert caught.value.code is Code.NON_FINITE


def test_the_live_model_computes_what_the_reloaded_soup_computes(family, tmp_path):
    # Not `.bfloat16()`: that would round the rotary frequencies too.
    model = AutoModelForCausalLM.from_pretrained(family[2], dtype=torch.bfloat16).eval()
    weights = [Fraction(1, 7), Fraction(2, 7), Fraction(4, 7)]
    LiveSoup(model, family, threads=1).write(weights)
    export(family, weights, tmp_path / "out", "bfloat16")
    (tmp_path / "out/config.json").write_text((family[0] / "config.json").read_text())
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.bfloat16).eval()
    ids = torch.arange(20).unsqueeze(0)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, reloaded(ids).logits)


def test_order_of_members_does_not_matter(family):
    weights = [Fraction(p, 1000) for p in (389, 211, 400)]
    results = []
    for order in [(0, 1, 2), (2, 0, 1)]:
        model = llama(9, tie_word_embeddings=True)
        live = LiveSoup(model, [family[i] for i in order], threads=2)
        live.write([weights[i] for i in order])
        results.append({n: zoo.raw(p.detach()) for n, p in model.named_parameters()})
    assert results[0] == results[1]


def test_models_that_do_not_fit_are_refused(family):
    with pytest.raises(Refused) as caught:
        LiveSoup(nn.Linear(2, 2), family)
    assert caught.value.code is Code.WRONG_TENSORS
    torch.manual_seed(0)
    wide = LlamaForCausalLM(LlamaConfig(**{**config().to_dict(), "vocab_size": 103}))
    with pytest.raises(Refused) as caught:
        LiveSoup(wide, family)
    assert caught.value.code in {Code.WRONG_SHAPES, Code.WRONG_TENSORS}
    untied = llama(0, tie_word_embeddings=False)
    with pytest.raises(Refused) as caught:
        LiveSoup(untied, family)
    assert caught.value.subject == "lm_head.weight"


def spelt(folder, state, factor):
    """A checkpoint that stores its head: the embedding times a factor."""
    return zoo.save(
        folder, {**state, "lm_head.weight": state["model.embed_tokens.weight"] * factor}
    )


def test_heads_follow_the_model(family, tmp_path):
    """A tied model needs heads that equal embeddings; an untied one gets the effective heads."""
    same = spelt(tmp_path / "same", zoo.load(family[0]), 1)
    other = spelt(tmp_path / "other", zoo.load(family[2]), 2)
    half = [Fraction(1, 2)] * 2
    tied = llama(0, tie_word_embeddings=True).bfloat16()
    for members in ([same, family[2]], [family[2], same], [same]):
        LiveSoup(tied, members, threads=1).write([Fraction(1, len(members))] * len(members))
    for members in ([same, other], [family[0], other], [other]):
        with pytest.raises(Refused) as caught:
            LiveSoup(tied, members, threads=1)
        assert caught.value.code is Code.UNTIED_HEAD
        assert caught.value.subject == "other: lm_head.weight"
    untied = llama(0, tie_word_embeddings=False).bfloat16()
    for n, members in enumerate(([family[0], other], [other, family[0]])):
        LiveSoup(untied, members, threads=1).write(half)
        plan = plan_soup(list(zip(members, half, strict=True)), reference=other)
        write_soup(plan, tmp_path / f"out{n}", threads=1, durable=False)
        assert {n: zoo.raw(p.detach()) for n, p in untied.named_parameters()} == {
            n: zoo.raw(x) for n, x in zoo.load(tmp_path / f"out{n}").items()
        }


def test_models_that_cannot_hold_the_soup_are_refused(tmp_path):
    state = {"w": torch.ones(4), "seen": torch.arange(4)}
    folder = zoo.save(tmp_path / "m", state)
    for name, changed, code in [
        ("w", torch.ones(4, dtype=torch.float8_e4m3fn), Code.WRONG_DTYPES),
        ("w", torch.ones(4, dtype=torch.int32), Code.WRONG_DTYPES),
        ("w", torch.ones(4, device="meta"), Code.WRONG_TENSORS),
        ("seen", torch.arange(4, dtype=torch.int32), Code.WRONG_DTYPES),
        ("seen", torch.arange(4).double(), Code.WRONG_DTYPES),
    ]:
        model = nn.Module()
        for one, x in {**state, name: changed}.items():
            model.register_buffer(one, x.clone())
        with pytest.raises(Refused) as caught:
            LiveSoup(model, [folder])
        assert (caught.value.code, caught.value.subject) == (code, name)


def test_weights_are_checked(family):
    live = LiveSoup(llama(0, tie_word_embeddings=True), family, threads=1)
    for bad in ([Fraction(1)], [Fraction(1, 2)] * 3, [Fraction(2), Fraction(-1), Fraction(0)]):
        with pytest.raises(Refused) as caught:
            live.write(bad)
        assert caught.value.code is Code.WEIGHTS


def test_a_non_finite_member_is_named(family, tmp_path):
    state = zoo.load(family[1])
    state["model.norm.weight"][3] = float("nan")
    bad = zoo.save(tmp_path / "bad", state)
    live = LiveSoup(llama(0, tie_word_embeddings=True), [family[0], bad], threads=1)
    live.write([Fraction(1), Fraction(0)])
    with pytest.raises(Refused) as caught:
        live.write([Fraction(1, 2), Fraction(1, 2)])
    assert caught.value.subject == "bad: model.norm.weight"
