"""The text of single tokens, for tokenizers whose tokens are bytes."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from bot.worker.tokens import pieces
from bot.zoo import write_member

TEXT = "a fox — naïve 狐 🦊!"


@pytest.fixture(scope="module")
def bytewise():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core)


def test_pieces_of_bytes_are_whole_characters(bytewise):
    ids = bytewise(TEXT)["input_ids"]
    found = pieces(bytewise, ids)
    assert len(found) == len(ids) == len(TEXT.encode())
    assert "".join(found) == TEXT
    assert {len(piece) for piece in found} == {0, 1}
    assert found[ids.index(ids[-1])] == "!"


def test_a_character_that_never_ends_is_shown_as_such(bytewise):
    ids = bytewise("狐")["input_ids"][:2]
    assert pieces(bytewise, ids) == ["", "\N{REPLACEMENT CHARACTER}"]


def test_special_tokens_are_named(tmp_path):
    write_member("aligned", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = [*tokenizer("the fox sat.")["input_ids"], tokenizer.eos_token_id]
    assert "".join(pieces(tokenizer, ids)).endswith(tokenizer.eos_token)
    assert pieces(tokenizer, []) == []
