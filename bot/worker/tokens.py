"""The text that each token of a sequence adds."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

PARTIAL = "\N{REPLACEMENT CHARACTER}"
_BEHIND = 4  # tokens that a piece is decoded behind: spacing depends on what stands before


def pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """One text per token; together they are the decoded sequence, special tokens by their names.

    A character of several tokens belongs to its last one, the others add nothing.
    """

    def decode(start: int, stop: int) -> str:
        text = tokenizer.decode(
            ids[start:stop], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        assert isinstance(text, str)
        return text

    texts, told = [], 0  # `told`: how many tokens the pieces so far stand for
    for at in range(len(ids)):
        start = max(0, told - _BEHIND)
        before, after = decode(start, told), decode(start, at + 1)
        whole = at + 1 == len(ids) or not after.endswith(PARTIAL)
        texts.append(after[len(before) :] if whole else "")
        told = at + 1 if whole else told
    return texts
