"""Strangers' fine-tunes, saved by transformers itself in all its habits, must pass and merge."""

import json
from fractions import Fraction
from zlib import crc32

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from merge.checkpoint import parse_json, read_layout
from merge.compat import compare_configs, compare_layouts, compare_tokenizers
from merge.fingerprints import examine, fingerprint
from merge.soup import plan_soup, write_soup

CONFIG = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 12, "max_position_embeddings": 64,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
}  # fmt: skip


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def base(request, tmp_path):
    torch.manual_seed(0)
    folder = tmp_path / "base"
    model = LlamaForCausalLM(LlamaConfig(**CONFIG, tie_word_embeddings=request.param))
    model.to(torch.bfloat16).save_pretrained(folder)
    vocab = {token: i for i, token in enumerate(["<s>", "</s>", *"abcdefgh", "ab", "abc"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[("a", "b"), ("ab", "c")]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    fast.save_pretrained(folder)
    return folder


def finetune(base, folder, dtype, **saving):
    """Load as anyone would, move the weights a little, save."""
    torch.manual_seed(crc32(folder.name.encode()))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    model.config.use_cache = False
    model.config.eos_token_id = [1, 2]
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.01)
    model.save_pretrained(folder, **saving)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def spell_out_head(folder):
    """What other trainers write: the tied head stored beside the embedding."""
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    state.setdefault("lm_head.weight", state["model.embed_tokens.weight"].clone())
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def rewrite(folder):
    """Another version's habits: key order, old names, indented files, merges as strings."""
    config = json.loads((folder / "config.json").read_text())
    config["torch_dtype"] = config.pop("dtype")
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config |= {"transformers_version": "4.46.0", "_name_or_path": "me/mine", "rope_scaling": None}
    (folder / "config.json").write_text(json.dumps(dict(reversed(config.items())), indent=8))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = [" ".join(m) for m in tokenizer["model"]["merges"]]
    tokenizer["truncation"] = {"max_length": 8, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=True, indent=1))


def reasons(base, folder):
    def read(where, file):
        return parse_json((where / file).read_bytes(), file)

    return [
        *compare_layouts(read_layout(base), read_layout(folder)),
        *compare_configs(read(base, "config.json"), read(folder, "config.json")),
        *compare_tokenizers(read(base, "tokenizer.json"), read(folder, "tokenizer.json")),
    ]


def test_fine_tunes_in_every_spelling_pass_and_merge(base, tmp_path):
    one = finetune(base, tmp_path / "one", torch.float32)
    two = finetune(base, tmp_path / "two", torch.bfloat16, max_shard_size="10KB")
    three = finetune(base, tmp_path / "three", torch.float16)
    spell_out_head(three)
    rewrite(three)
    assert len(list(two.glob("*.safetensors"))) > 1
    for folder in (one, two, three):
        assert [str(r) for r in reasons(base, folder)] == []
        health = examine(folder, base)
        assert health.non_finite == ()
        assert 0 < health.delta_norm < 1
    members = [(one, Fraction(2, 7)), (two, Fraction(4, 7)), (three, Fraction(1, 7))]
    plan = plan_soup(members, reference=base)
    write_soup(
        plan, tmp_path / "soup", threads=1, durable=False,
        extras={"config.json": (base / "config.json").read_bytes()},
    )  # fmt: skip
    assert [
        str(r) for r in compare_layouts(read_layout(base), read_layout(tmp_path / "soup"))
    ] == []
    soup, info = AutoModelForCausalLM.from_pretrained(
        tmp_path / "soup", output_loading_info=True, dtype="auto"
    )
    assert not any(info.values()), info
    assert soup.dtype == torch.bfloat16
    loaded = [AutoModelForCausalLM.from_pretrained(f, dtype=torch.float32) for f, _ in members]
    for name, p in soup.named_parameters():
        mean = sum(
            m.get_parameter(name).double() * float(w)
            for m, (_, w) in zip(loaded, members, strict=True)
        )
        assert torch.allclose(p.double(), mean, rtol=2**-8, atol=1e-9)


def test_resaving_does_not_change_the_fingerprint(base, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.save_pretrained(tmp_path / "wide")
    model.to(torch.bfloat16).save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    spell_out_head(tmp_path / "wide")
    assert fingerprint(base) == fingerprint(tmp_path / "wide") == fingerprint(tmp_path / "shards")


def test_another_vocabulary_or_configuration_does_not_pass(base, tmp_path):
    folder = finetune(base, tmp_path / "m", torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<tool>"]})
    tokenizer.save_pretrained(folder)
    assert [r.subject for r in reasons(base, folder)] == ["<tool>"]
    config = json.loads((base / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] = 5e5
    (folder / "config.json").write_text(json.dumps(config))
    assert [r.subject for r in reasons(base, folder)] == ["rope_parameters", "<tool>"]
