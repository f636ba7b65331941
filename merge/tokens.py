"""What a tokenizer.json says about ids, reduced to digests and tables of fixed-size rows.

    reduced(scanned(stream))        algorithm, ids, merges and scores: equal where these are
    table(parsed(json_object))      one row for every token

Entries that no tokenizer could have are refused. Not promised: anything about parts that say
nothing about ids, such as normalisers; only that they are JSON. Standard library only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b, sha256
from heapq import merge
from itertools import chain, groupby, pairwise
from typing import Any

from merge.errors import Code, Refused, brief
from merge.scan import Readable, Scanner

MOST_TOKENS, MOST_ADDED, MOST_MERGES = 1 << 20, 1 << 18, 1 << 21
"""The largest published vocabulary has 902,000 tokens; one of 256,000 has 581,000 merges."""

Part = tuple[str, list[Any]]
"""`type`, `vocab` (keys and ids), `pieces` (Unigram's), `added` or `merges`, and some of its
entries in their order, as they stand there."""
Row = bytes
"""A token by its digest, and its id."""
_DIGEST = 16


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """kind: of the algorithm; ids, rules: digests of token -> id, and of merges and scores."""

    kind: str | None
    ids: bytes
    rules: bytes


def parsed(tokenizer: Mapping[str, object]) -> Iterator[Part]:
    """Parts of a parsed tokenizer.json."""
    added, model = tokenizer.get("added_tokens"), tokenizer.get("model")
    if isinstance(added, list):
        yield "added", added
    if not isinstance(model, Mapping):
        return
    kind, vocab, merges = model.get("type"), model.get("vocab"), model.get("merges")
    if kind is not None:
        yield "type", [kind]
    if isinstance(vocab, Mapping):
        yield "vocab", list(vocab.items())
    elif isinstance(vocab, list):
        yield "pieces", vocab
    if isinstance(merges, list):
        yield "merges", merges


def scanned(stream: Readable) -> Iterator[Part]:
    """The same of a file, in batches. Raises Refused: `vocab-mismatch` where it is no JSON."""
    text = Scanner(stream)
    try:
        for key in text.keys():  # noqa: SIM118 - no mapping
            if key == "added_tokens" and text.next() == "[":
                yield from _each("added", text.items())
            elif key == "model" and text.next() == "{":
                yield from _model(text)
            else:
                text.value()
        text.end()
    except RecursionError as error:
        raise malformed("tokenizer.json", "not valid JSON (nested too deeply)") from error
    except Refused:
        raise
    except ValueError as error:
        raise malformed("tokenizer.json", f"not valid JSON ({str(error)[:100]})") from error


def reduced(parts: Iterable[Part]) -> Vocabulary:
    """All that is compared. Raises Refused: `vocab-mismatch`, and what `parts` raises."""
    kind: str | None = None
    implied: str | None = None
    rules = {"merges": sha256(), "pieces": sha256()}
    tokens, merges = _Tokens(), 0
    for part, entries in parts:
        tokens.add(part, entries)
        if part == "type":
            kind = _kind(entries[0])
        elif part == "pieces":
            rules[part].update(_listed(_scores(entries)))
        elif part == "merges":
            implied, merges = "BPE", merges + len(entries)
            _check_count(merges, MOST_MERGES, "model.merges")
            rules[part].update(_listed(_merges(entries)))
    ids = sha256(b"".join(tokens.table())).digest()
    return Vocabulary(kind or implied, ids, b"".join(one.digest() for one in rules.values()))


def table(parts: Iterable[Part]) -> list[Row]:
    """A row for every token with the id that counts, sorted. Raises as `reduced`."""
    tokens = _Tokens()
    for part, entries in parts:
        tokens.add(part, entries)
    return tokens.table()


def differing(ours: list[Row], theirs: list[Row]) -> list[Row]:
    """Rows that are in one of two tables, sorted."""
    return [row for row, rows in groupby(merge(ours, theirs)) if sum(1 for _ in rows) == 1]


def count(rows: list[Row]) -> int:
    """Tokens in sorted rows."""
    return sum(1 for _ in groupby(rows, key=_token))


def first_of(parts: Iterable[Part], rows: list[Row]) -> str | None:
    """Of the tokens in parts that have one of these sorted rows the first in the order of texts."""
    least = None
    for part, entries in parts:
        tokens = (token for token, _ in _ids(part, entries, 0))
        found = [token for token in tokens if id_of(rows, token) is not None]
        least = min(found if least is None else [*found, least], default=None)
    return least


def id_of(rows: list[Row], token: str) -> int | None:
    """The id that sorted rows give to a token."""
    digest = _digest(token)
    at = bisect_left(rows, digest)
    found = at < len(rows) and rows[at].startswith(digest)
    return int.from_bytes(rows[at][_DIGEST:], "big") if found else None


def malformed(subject: str, detail: str = "an entry is malformed") -> Refused:
    return Refused(Code.VOCAB_MISMATCH, subject, detail, "write it again with save_pretrained")


class _Tokens:
    """Tokens and their ids as they come."""

    def __init__(self) -> None:
        self._listed: list[Row] = []
        self._added: dict[bytes, int] = {}
        self._keyed = False

    def add(self, part: str, entries: list[Any]) -> None:
        found = _ids(part, entries, len(self._listed))
        if part == "added":
            self._added.update((_digest(token), number) for token, number in found)
        else:
            self._listed += [_row(_digest(token), number) for token, number in found]
        self._keyed |= part == "vocab"
        _check_count(len(self._listed), MOST_TOKENS, "model.vocab")
        _check_count(len(self._added), MOST_ADDED, "added_tokens")

    def table(self) -> list[Row]:
        """Of two ids of one token the last that was said counts: an added token's, a higher one."""
        self._listed.sort()
        rows = [_row(*one) for one in self._added.items()]
        for row, after in pairwise((*self._listed, b"")):
            again = _token(row) == _token(after)
            if again and self._keyed:
                raise malformed("model.vocab", "a token occurs twice")
            if not again and _token(row) not in self._added:
                rows.append(row)
        rows.sort()
        return rows


def _model(text: Scanner) -> Iterator[Part]:
    for key in text.keys():  # noqa: SIM118 - no mapping
        if key == "vocab" and text.next() == "{":
            yield from _each("vocab", text.pairs())
        elif key == "vocab" and text.next() == "[":
            yield from _each("pieces", text.items())
        elif key == "merges" and text.next() == "[":
            yield "merges", []
            yield from _each("merges", text.items())
        elif (value := text.value()) is not None and key == "type":
            yield "type", [value]


def _each(part: str, batches: Iterable[list[Any]]) -> Iterator[Part]:
    for batch in batches:
        yield part, batch


def _digest(token: str) -> bytes:
    return blake2b(token.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()


def _row(digest: bytes, number: int) -> Row:
    return digest + number.to_bytes(4, "big")


def _token(row: Row) -> bytes:
    return row[:_DIGEST]


def _ids(part: str, entries: list[Any], first: int) -> list[tuple[str, int]]:
    """Tokens and ids among entries of a part. first: the number of the first of `pieces`."""
    match part:
        case "vocab":
            found = entries
        case "pieces":  # [token, score]; the position is the id
            _scores(entries)
            found = [(entry[0], first + i) for i, entry in enumerate(entries)]
        case "added" if _all(dict, entries):
            found = [(entry.get("content"), entry.get("id")) for entry in entries]
        case "added":
            raise malformed("added_tokens")
        case _:
            return []
    numbers = [number for _, number in found]
    sane = _all(str, (token for token, _ in found)) and _all(int, numbers)
    if not sane or not 0 <= min(numbers, default=0) <= max(numbers, default=0) < 2**32:
        raise malformed("added_tokens" if part == "added" else "model.vocab")
    return found


def _scores(entries: list[Any]) -> list[float]:
    if not all(isinstance(e, list) and len(e) == 2 and _is_number(e[1]) for e in entries):
        raise malformed("model.vocab")
    return [entry[1] + 0.0 for entry in entries]  # 1 is 1.0 and -0.0 is 0.0


def _merges(entries: list[Any]) -> list[list[str]]:
    """Pairs of tokens: "a b" before tokenizers 0.20, then ["a", "b"]."""
    found = [entry.split(" ") if isinstance(entry, str) else entry for entry in entries]
    if not _all(list, found) or not _all(str, chain.from_iterable(found)):
        raise malformed("model.merges")
    return found


def _kind(value: object) -> str:
    if not isinstance(value, str) or len(value) > 100:
        raise malformed("model.type", f"is {brief(value)}")
    return value


def _all(kind: type, values: Iterable[object]) -> bool:
    return set(map(type, values)) <= {kind}


def _is_number(value: object) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**53)


def _listed(entries: list[Any]) -> bytes:
    """The same text of the same entries, however they are cut into batches."""
    return f"{repr(entries)[1:-1]}, ".encode("utf-8", "surrogatepass") if entries else b""


def _check_count(found: int, most: int, subject: str) -> None:
    if found > most:
        raise malformed(subject, f"more than {most}")
