"""Do two tokenizers give every token the same id?

`tokenizer.json` is compared by content; where one side has none, the files of older tokenizers are
by their bytes.

Not promised: that two tokenizers with equal vocabularies cut every text alike; normalisation and
templates may differ, and only the base's tokenizer is ever used.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from merge.checkpoint import MAX_TOKENIZER, read_small
from merge.errors import Code, Refused, brief

VOCABULARIES = ("tokenizer.model", "spiece.model", "vocab.json", "merges.txt", "vocab.txt")
"""Compared by hash where there is no tokenizer.json on both sides."""


def vocabulary_files(folder: Path) -> dict[str, str]:
    """SHA-256 of each of VOCABULARIES that lies in `folder`. Raises Refused: `unsafe-file`."""
    there = [name for name in VOCABULARIES if os.path.lexists(folder / name)]
    return {name: sha256(read_small(folder / name, MAX_TOKENIZER)).hexdigest() for name in there}


def compare_vocabulary_files(base: Mapping[str, str], other: Mapping[str, str]) -> list[Refused]:
    """Reasons why two results of `vocabulary_files` differ in what both have."""
    odd = sorted(name for name in base.keys() & other.keys() if base[name] != other[name])
    return [_vocab(name, "another file than the base's") for name in odd]


def compare_tokenizers(
    base_json: Mapping[str, object], other_json: Mapping[str, object]
) -> list[Refused]:
    """Reasons why two parsed `tokenizer.json` give tokens different ids; empty when they agree.

    Compared is content: the algorithm, the id of every token, wherever it is listed (vocabulary
    or added tokens), and the merges. Formatting, flags, padding and templates are not: the
    tokenizer in use is always the base's. Code: `vocab-mismatch`.
    """
    mine, yours = _Vocabulary(base_json), _Vocabulary(other_json)
    if mine.ids != yours.ids:
        odd = sorted(
            t for t in mine.ids.keys() | yours.ids.keys() if mine.ids.get(t) != yours.ids.get(t)
        )
        return [
            _vocab(
                odd[0],
                f"id {brief(yours.ids.get(odd[0]))} instead of {brief(mine.ids.get(odd[0]))}, "
                f"one of {len(odd)} tokens that differ",
            )
        ]
    if mine.kind != yours.kind:
        return [_vocab("model.type", f"{brief(yours.kind)} instead of {brief(mine.kind)}")]
    if mine.rules != yours.rules:
        return [_vocab("model.merges", "merges or scores differ")]
    return []


class _Vocabulary:
    """What a tokenizer.json says about ids: algorithm, token -> id, merges or scores."""

    def __init__(self, tokenizer: Mapping[str, object]) -> None:
        model = tokenizer.get("model")
        model = model if isinstance(model, Mapping) else {}
        self.kind = model.get("type") or ("BPE" if "merges" in model else None)
        self.ids: dict[str, object] = {}
        self.rules: list[object] = []
        vocab = model.get("vocab")
        if isinstance(vocab, Mapping):
            self.ids.update(vocab)
        elif isinstance(vocab, list):  # Unigram: [[token, score], ...], the position is the id
            self.ids.update({_token(e[0]): i for i, e in enumerate(vocab) if _pair(e)})
            self.rules += [e[1] for e in vocab if _pair(e)]
        for token in _entries(tokenizer.get("added_tokens")):
            if isinstance(token, Mapping):
                self.ids[_token(token.get("content"))] = token.get("id")
        for merge in _entries(model.get("merges")):  # "a b" before tokenizers 0.20, then ["a", "b"]
            self.rules.append(merge.split(" ") if isinstance(merge, str) else merge)


def _entries(value: object) -> Iterable[object]:
    return value if isinstance(value, list) else ()


def _token(value: object) -> str:
    return value if isinstance(value, str) else f"not a text: {brief(value)}"


def _pair(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 2


def _vocab(subject: str, detail: str) -> Refused:
    return Refused(Code.VOCAB_MISMATCH, subject, detail, "members must share the base's vocabulary")
