"""Token classes of real tokenizers, and the proof that two vocabularies are one."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from route.vocab import (
    VocabularyMismatch,
    check_digest,
    classify,
    goes_on,
    is_punctuation,
    leaves_open,
    prove_identical,
    read_vocabulary,
    token_digest,
)

TEXT = ["The fox didn't run — it slept.\nDéjà vu, twice! 日本語 \N{FOX FACE}"] * 3


def byte_level():
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=alphabet, special_tokens=["<eos>"], show_progress=False
    )
    core.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>")


def metaspace():
    words = ["<s>", "▁", "▁The", "▁fox", "es", "The", ".", "a", "▁the", "<0x0A>"]
    core = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>"), words


@pytest.mark.parametrize(
    ("text", "punctuation", "continues", "inside"),
    [
        (" fox", False, False, True),
        ("es", False, True, True),
        ("7", False, True, True),
        (".", True, False, False),
        (" (", True, False, False),
        ("", True, False, False),
        (" ", True, False, False),
        ("\n", True, False, False),
        (".\n\nThe", True, False, True),
        ("'t", False, True, True),
        ("'", True, False, False),
        ("é", False, True, True),
        ("\N{REPLACEMENT CHARACTER}", False, True, True),
        (" \N{REPLACEMENT CHARACTER}", False, False, True),
        ("**", True, False, False),
        ("word.", False, True, False),
    ],
)
def test_classes_of_texts(text, punctuation, continues, inside):
    assert (is_punctuation(text), goes_on(text), leaves_open(text)) == (
        punctuation,
        continues,
        inside,
    )


def test_byte_level_tokens_keep_their_space_and_their_bytes():
    tokenizer = byte_level()
    vocabulary = read_vocabulary(tokenizer)
    ids = tokenizer.get_vocab()
    assert vocabulary.special.nonzero().flatten().tolist() == [ids["<eos>"]]
    assert not vocabulary.continues[ids["Ġ"]]
    assert vocabulary.punctuation[ids["Ċ"]]
    assert vocabulary.continues[ids["s"]]
    # the first byte of an emoji: whoever begins the character finishes it
    head, tail = tokenizer("\N{FOX FACE}")["input_ids"][0], ids["¬"]
    assert not vocabulary.punctuation[head]
    assert vocabulary.inside[head]
    assert vocabulary.continues[tail]


def test_metaspace_tokens_are_read_behind_other_text():
    tokenizer, words = metaspace()
    vocabulary = read_vocabulary(tokenizer)
    begins = [w for w in words if vocabulary.continues[words.index(w)]]
    function = [w for w in words if vocabulary.function[words.index(w)]]
    assert begins == ["es", "The", "a"]
    assert function == ["▁The", "The", "a", "▁the"]
    assert vocabulary.punctuation[words.index("<0x0A>")]


def test_masks_are_computed_once_and_follow_added_tokens():
    tokenizer = byte_level()
    first = read_vocabulary(tokenizer)
    assert read_vocabulary(tokenizer) is first
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    second = read_vocabulary(tokenizer)
    assert second.size == first.size + 1
    assert second.special[-1]
    check_digest(tokenizer, first.size, first.digest)  # the shared range is what counts
    assert second.digest != first.digest


def test_a_padded_head_adds_ids_that_the_base_should_not_like():
    vocabulary = classify([" fox", "."], special=set()).fit(4)
    assert vocabulary.punctuation.tolist() == [False, True, True, True]
    assert vocabulary.inside.tolist() == [True, False, False, False]
    assert len(classify(["a"] * 9, set()).fit(4).special) == 4


def test_identical_vocabularies_are_proven_and_differences_shown():
    one, other = byte_level(), byte_level()
    assert prove_identical(one, other) == len(one)
    other.add_special_tokens({"additional_special_tokens": ["<chat>"]})
    assert prove_identical(one, other) == len(one)
    third, _ = metaspace()
    with pytest.raises(VocabularyMismatch, match="id 0 is '<eos>' for the base and '<s>' for the"):
        prove_identical(one, third)
    with pytest.raises(VocabularyMismatch, match="the ids mean other tokens"):
        check_digest(third, len(one), token_digest(dict(enumerate("abc")), 3))


def test_the_digest_reads_every_id_and_token():
    tokens = {0: "a", 1: "b", 2: "c"}
    assert token_digest(tokens, 3) == token_digest(dict(reversed(tokens.items())), 3)
    assert token_digest(tokens, 3) != token_digest({**tokens, 2: "d"}, 3)
    assert token_digest(tokens, 2) == token_digest({**tokens, 2: "d"}, 2)
    assert torch.equal(classify(["a"], {0}).special, torch.tensor([True]))
