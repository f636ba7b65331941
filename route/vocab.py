"""A tokenizer as boolean vectors over its ids, computed once; and the proof that two are the same.

Routing never looks at strings: each class of tokens is a mask [V] and a rule is one gather. The
classes are ours (the paper names punctuation/formatting and function words without a list):

* special: marked special by the tokenizer. The base may never write one.
* punctuation: special, or the text is blank, has no letter or digit, or holds a newline.
* function: the stripped, lower-cased text is a whole word of the closed class.
* continues: the text goes on with a word: it begins with a letter or digit, or with an apostrophe
  and a letter ("'t").
* inside: a word may still be open after the text: it ends with a letter or digit.

A token that holds part of a character (bytes that are no text alone) continues, is inside, and is
no punctuation: whoever begins a character finishes it.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from .words import FUNCTION_WORDS

PARTIAL = "\N{REPLACEMENT CHARACTER}"
_APOSTROPHES = ("'", "\N{RIGHT SINGLE QUOTATION MARK}")


class VocabularyMismatch(ValueError):
    """Two tokenizers give different tokens to the same id, or a router knows another one."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Masks [V] and the digest that identifies the id-to-token map."""

    size: int
    digest: str
    special: Tensor
    punctuation: Tensor
    function: Tensor
    continues: Tensor
    inside: Tensor

    def fit(self, width: int, device: torch.device | str = "cpu") -> "Vocabulary":
        """The same masks for a head of `width` logits.

        Ids without a token (a padded head) are punctuation: nothing that the base should write.
        """

        def resize(mask: Tensor, fill: bool) -> Tensor:
            tail = torch.full((max(0, width - len(mask)),), fill)
            return torch.cat([mask[:width], tail]).to(device)

        return Vocabulary(
            size=width,
            digest=self.digest,
            special=resize(self.special, False),
            punctuation=resize(self.punctuation, True),
            function=resize(self.function, False),
            continues=resize(self.continues, False),
            inside=resize(self.inside, False),
        )


def classify(
    texts: Sequence[str], special: Collection[int], tokens: Mapping[int, str] | None = None
) -> Vocabulary:
    """Masks for the text of each id; `tokens` (id to token) is what the digest is taken of."""

    def mask(rule: "list[bool]") -> Tensor:
        return torch.tensor(rule, dtype=torch.bool)

    marked = [index in special for index in range(len(texts))]
    return Vocabulary(
        size=len(texts),
        digest=token_digest(tokens if tokens is not None else dict(enumerate(texts)), len(texts)),
        special=mask(marked),
        punctuation=mask(
            [mark or is_punctuation(text) for mark, text in zip(marked, texts, strict=True)]
        ),
        function=mask(
            [
                not mark and text.strip().lower() in FUNCTION_WORDS
                for mark, text in zip(marked, texts, strict=True)
            ]
        ),
        continues=mask(
            [not mark and goes_on(text) for mark, text in zip(marked, texts, strict=True)]
        ),
        inside=mask(
            [not mark and leaves_open(text) for mark, text in zip(marked, texts, strict=True)]
        ),
    )


def is_punctuation(text: str) -> bool:
    """Blank, or without a letter or digit, or with a newline; a partial character is not."""
    if PARTIAL in text:
        return False
    return "\n" in text or not any(character.isalnum() for character in text)


def goes_on(text: str) -> bool:
    """Whether `text` goes on with the word before it."""
    if text.startswith(_APOSTROPHES):
        return text[1:2].isalpha()
    return text[:1].isalnum() or text.startswith(PARTIAL)


def leaves_open(text: str) -> bool:
    """Whether a word may go on after `text`."""
    return text[-1:].isalnum() or text.endswith(PARTIAL)


_read: "WeakKeyDictionary[Any, tuple[int, Vocabulary]]" = WeakKeyDictionary()


def read_vocabulary(tokenizer: Any) -> Vocabulary:
    """The vocabulary of a transformers tokenizer; computed once per tokenizer object.

    Each id is decoded behind an anchor token, because tokenizers drop a leading space at the start.
    """
    known = _read.get(tokenizer)
    if known is not None and known[0] == len(tokenizer):
        return known[1]
    tokens = id_to_token(tokenizer)
    size = max(tokens) + 1
    special = set(tokenizer.all_special_ids) | {
        index for index, added in tokenizer.added_tokens_decoder.items() if added.special
    }
    vocabulary = classify(_texts(tokenizer, tokens, special, size), special, tokens)
    _read[tokenizer] = (len(tokenizer), vocabulary)
    return vocabulary


def _texts(
    tokenizer: Any, tokens: Mapping[int, str], special: Collection[int], size: int
) -> list[str]:
    """The text of every id as it stands behind other text; "" for an id without a token."""

    def decode(ids: list[int]) -> str:
        text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    anchor = next(
        (i for i in sorted(tokens) if i not in special and decode([i]).strip().isalnum()),
        min(tokens),
    )
    head = len(decode([anchor]))
    return [decode([anchor, i])[head:] if i in tokens else "" for i in range(size)]


def id_to_token(tokenizer: Any) -> dict[int, str]:
    """Id to token, added tokens included."""
    return {index: token for token, index in tokenizer.get_vocab().items()}


def token_digest(tokens: Mapping[int, str], size: int) -> str:
    """sha256 over the ids below `size` and their tokens, in order of id."""
    sha = hashlib.sha256()
    for index in sorted(i for i in tokens if i < size):
        sha.update(f"{index}\t{tokens[index]!r}\n".encode())
    return sha.hexdigest()


def prove_identical(base_tokenizer: Any, aligned_tokenizer: Any) -> int:
    """The size of the shared range of ids, on which both give the same token to every id.

    Raises VocabularyMismatch that shows where they differ. Ids beyond the range belong to one side
    only (chat markers that were added to the aligned model); the base never reads or writes them.
    """
    base, aligned = id_to_token(base_tokenizer), id_to_token(aligned_tokenizer)
    shared = min(max(base), max(aligned)) + 1
    differing = [i for i in range(shared) if base.get(i) != aligned.get(i)]
    if differing:
        shown = "; ".join(
            f"id {i} is {base.get(i)!r} for the base and {aligned.get(i)!r} for the aligned model"
            for i in differing[:5]
        )
        raise VocabularyMismatch(
            f"the vocabularies differ at {len(differing)} of {shared} shared ids: {shown}"
        )
    return shared


_checked: "WeakKeyDictionary[Any, tuple[int, int, str]]" = WeakKeyDictionary()


def check_digest(tokenizer: Any, size: int, digest: str) -> None:
    """Raise VocabularyMismatch unless ids below `size` are the ones `digest` was taken of.

    What was found right is remembered per tokenizer object.
    """
    if _checked.get(tokenizer) == (len(tokenizer), size, digest):
        return
    tokens = id_to_token(tokenizer)
    if token_digest(tokens, size) != digest:
        raise VocabularyMismatch(
            f"the tokenizer ({max(tokens) + 1} ids) is not the one this router was calibrated "
            f"with (digest {digest[:12]} over its first {size} ids): the ids mean other tokens"
        )
    _checked[tokenizer] = (len(tokenizer), size, digest)
