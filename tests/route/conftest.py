"""A pair of tiny random models that share a tokenizer: the real loop in milliseconds."""

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from route.config import Pin, PromptFormat, RouterConfig, VocabularyPin
from route.pins import complete
from route.vocab import read_vocabulary

torch.set_num_threads(1)

SPECIAL = ("<pad>", "<eos>", "<unk>")
WORDS = ["the", "a", "fox", "ran", "and", "hid", "in", "river", "barn", ",", ".", "!"]


def build_tokenizer(words=WORDS):
    tokens = [*SPECIAL, *"\n abcdefghijklmnopqrstuvwxyz.,!'", *(f" {w}" for w in words)]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", ignore_merges=True))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[a-z]+|[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def build_model(seed, width, scale=8.0, **changes):
    """Random weights; `scale` on the head makes some predictions sure and others not."""
    torch.manual_seed(seed)
    settings = {
        "vocab_size": width,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": None,
        "initializer_range": 0.2,
    }
    model = LlamaForCausalLM(LlamaConfig(**(settings | changes))).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(scale / 4)
    return model


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="session")
def base(tokenizer):
    return build_model(1, len(tokenizer))


@pytest.fixture(scope="session")
def aligned(tokenizer):
    return build_model(2, len(tokenizer))


@pytest.fixture(scope="session")
def make_config(base, aligned, tokenizer):
    vocabulary = read_vocabulary(tokenizer)

    def make(router, threshold=None, **changes):
        pins = {
            "base": complete(Pin("tiny/base"), base),
            "aligned": complete(Pin("tiny/aligned"), aligned),
        }
        sizes = VocabularyPin(vocabulary.size, vocabulary.digest)
        settings = {"vocabulary": sizes, "prompt_format": PromptFormat.SAME, **pins, **changes}
        return RouterConfig(router=router, threshold=threshold, **settings)

    return make


@pytest.fixture
def batch(tokenizer):
    """Three prompts of different length, left-padded."""
    tokenizer.padding_side = "left"
    return tokenizer(["a fox", " the river and the", "hid"], return_tensors="pt", padding=True)
