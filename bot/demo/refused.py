"""Ten repositories that must be refused, each for its own reason, all made from the base's files.

Only bytes and JSON are handled: no torch. `REFUSED` names the reason code that each must get.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping

Files = dict[str, bytes]
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
NAN_BF16 = struct.pack("<H", 0x7FC0)


def pickle_only(files: Files) -> Files:
    """A pickle that would print if anybody opened it."""
    payload = b"cbuiltins\nprint\n(S'the pickle was opened'\ntR."
    return _without(files, WEIGHTS) | {"pytorch_model.bin": payload}


def other_architecture(files: Files) -> Files:
    changed = {"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox"}
    return files | {"config.json": _config(files, changed)}


def wrong_shapes(files: Files) -> Files:
    """The first matrix transposed: the same bytes under another shape."""

    def transpose(header: dict[str, dict[str, list[int]]]) -> None:
        name = next(n for n, t in header.items() if len(set(t.get("shape", []))) == 2)
        header[name]["shape"].reverse()

    return files | {WEIGHTS: _with_header(files[WEIGHTS], transpose)}


def missing_shard(files: Files) -> Files:
    names = list(_header(files[WEIGHTS]))
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    index = {name: first if i % 2 else second for i, name in enumerate(names)}
    shard = {first: files[WEIGHTS]}
    return _without(files, WEIGHTS) | shard | {INDEX: _index(index)}


def escaping_index(files: Files) -> Files:
    names = list(_header(files[WEIGHTS]))
    return files | {INDEX: _index(dict.fromkeys(names, "../../../etc/model.safetensors"))}


def nan_weights(files: Files) -> Files:
    """One NaN in the last tensor; nothing but reading the weights can show it."""
    return files | {WEIGHTS: files[WEIGHTS][:-2] + NAN_BF16}


def other_vocabulary(files: Files) -> Files:
    """Two tokens change places."""
    tokenizer = json.loads(files["tokenizer.json"])
    vocabulary = tokenizer["model"]["vocab"]
    one, other = list(vocabulary)[10:12]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    return files | {"tokenizer.json": json.dumps(tokenizer).encode()}


def no_licence(files: Files) -> Files:
    card = files["README.md"].decode()
    kept = [line for line in card.split("\n") if not line.startswith("license:")]
    return files | {"README.md": "\n".join(kept).encode()}


def unchanged(files: Files) -> Files:
    return files


REFUSED: Mapping[str, tuple[str, Callable[[Files], Files]]] = {
    "pickled": ("no-safetensors", pickle_only),
    "other-kind": ("other-architecture", other_architecture),
    "transposed": ("wrong-shapes", wrong_shapes),
    "half-there": ("missing-shard", missing_shard),
    "escape": ("bad-index", escaping_index),
    "poisoned": ("non-finite", nan_weights),
    "other-words": ("vocab-mismatch", other_vocabulary),
    "behind-a-gate": ("gated", unchanged),
    "unlicensed": ("no-licence", no_licence),
    "copycat": ("duplicate", unchanged),
}
"""name -> (reason code, how its files differ from those of a good fine-tune)."""


def _without(files: Files, name: str) -> Files:
    return {path: content for path, content in files.items() if path != name}


def _config(files: Files, changed: Mapping[str, object]) -> bytes:
    return json.dumps(json.loads(files["config.json"]) | dict(changed)).encode()


def _index(weight_map: Mapping[str, str]) -> bytes:
    return json.dumps({"metadata": {"total_size": 1}, "weight_map": dict(weight_map)}).encode()


def _header(raw: bytes) -> dict[str, dict[str, list[int]]]:
    (length,) = struct.unpack("<Q", raw[:8])
    header: dict[str, dict[str, list[int]]] = json.loads(raw[8 : 8 + length])
    return {name: tensor for name, tensor in header.items() if name != "__metadata__"}


def _with_header(raw: bytes, change: Callable[[dict[str, dict[str, list[int]]]], None]) -> bytes:
    (length,) = struct.unpack("<Q", raw[:8])
    header = _header(raw)
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + raw[8 + length :]
