"""Writes hostile checkpoint folders; each case names the refusal it must cause.

    python tests/hostile/make.py DIR        every case as a folder DIR/NAME

A case is a function that fills a folder. `CASES` maps its name to (code, function). The base that
all cases are compared with is `write_base`.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from merge.errors import Code

Fill = Callable[[Path], None]
SECOND = "model-00002-of-00002.safetensors"
CASES: dict[str, tuple[Code, Fill]] = {}
SHAPES = {
    "model.embed_tokens.weight": [8, 4],
    "model.layers.0.mlp.up_proj.weight": [6, 4],
    "model.norm.weight": [4],
}
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4,
    "vocab_size": 8, "num_hidden_layers": 1, "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "dtype": "float32",
}  # fmt: skip
TOKENIZER = {
    "version": "1.0",
    "added_tokens": [{"id": 0, "content": "<s>", "special": True}],
    "model": {"type": "BPE", "vocab": {"<s>": 0, "a": 1, "b": 2, "ab": 3}, "merges": ["a b"]},
}


def case(name: str, code: Code) -> Callable[[Fill], Fill]:
    def register(fill: Fill) -> Fill:
        CASES[name] = (code, fill)
        return fill

    return register


# ------------------------------------------------------------------------------ building blocks


def entries(
    shapes: Mapping[str, list[int]] | None = None, dtype: str = "F32", size: int = 4
) -> dict[str, object]:
    """Header entries of tensors that lie one after the other."""
    result: dict[str, object] = {}
    at = 0
    for name, shape in (SHAPES if shapes is None else shapes).items():
        end = at + size
        for n in shape:
            end = at + (end - at) * n
        result[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
        at = end
    return result


def pack(header: object, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def data_of(header: Mapping[str, object], value: float = 0.5) -> bytes:
    ends = [e["data_offsets"][1] for n, e in header.items() if n != "__metadata__"]
    return struct.pack("<f", value) * (max(ends) // 4)


def write_base(folder: Path) -> None:
    write_tensors(folder, entries())


def write_tensors(folder: Path, header: Mapping[str, object], data: bytes | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(
        pack(header, data_of(header) if data is None else data)
    )
    write_json(folder, "config.json", CONFIG)
    write_json(folder, "tokenizer.json", TOKENIZER)


def write_json(folder: Path, name: str, value: object) -> None:
    (folder / name).write_text(json.dumps(value))


def write_sharded(folder: Path, weight_map: Mapping[str, object] | None = None) -> None:
    """Two honest shards and an index, with the map replaced where one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(SHAPES)
    files = ["model-00001-of-00002.safetensors", SECOND]
    honest: dict[str, object] = {}
    for file, part in zip(files, (names[:2], names[2:]), strict=True):
        header = entries({n: SHAPES[n] for n in part})
        (folder / file).write_bytes(pack(header, data_of(header)))
        honest |= dict.fromkeys(part, file)
    write_index(folder, honest if weight_map is None else {**honest, **weight_map})
    write_json(folder, "config.json", CONFIG)
    write_json(folder, "tokenizer.json", TOKENIZER)


def write_index(folder: Path, weight_map: object) -> None:
    write_json(folder, "model.safetensors.index.json", {"weight_map": weight_map})


def edited(name: str, **changes: object) -> dict[str, object]:
    header = entries()
    header[name] = {**header[name], **changes}
    return header


# ------------------------------------------------------------------------------ no safetensors


@case("empty-folder", Code.NO_SAFETENSORS)
def _(folder: Path) -> None:
    folder.mkdir(parents=True)


@case("pickle-only", Code.NO_SAFETENSORS)
def _(folder: Path) -> None:
    folder.mkdir(parents=True)
    # protocol 0: os.system("touch PWNED") when unpickled
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch PWNED'\ntR.")


@case("gguf-only", Code.NO_SAFETENSORS)
def _(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "model.gguf").write_bytes(b"GGUF\x03\0\0\0")


# ------------------------------------------------------------------------------ files


def nested(depth: int) -> object:
    return json.loads("[" * depth + "]" * depth)


def renamed(name: str) -> dict[str, object]:
    """The honest header with one more, empty tensor of that name."""
    end = max(entry["data_offsets"][1] for entry in entries().values())
    return {**entries(), name: {"dtype": "F32", "shape": [0], "data_offsets": [end, end]}}


def doubled(key: str) -> bytes:
    """The honest header with the first entry of that key written twice."""
    text = json.dumps(entries())
    value = entries().get(key, [0, 128])
    return text.replace(f'"{key}": ', f'"{key}": {json.dumps(value)}, "{key}": ', 1).encode()


V = "model.norm.weight"
U = "model.layers.0.mlp.up_proj.weight"


def header_case(name: str, make: Callable[[], bytes], code: Code = Code.BAD_SAFETENSORS) -> None:
    def fill(folder: Path) -> None:
        write_base(folder)
        (folder / "model.safetensors").write_bytes(make())

    case(name, code)(fill)


def honest() -> bytes:
    return pack(entries(), data_of(entries()))


header_case("empty-file", lambda: b"")
header_case("seven-bytes", lambda: b"\0" * 7)
header_case("header-length-2^60", lambda: struct.pack("<Q", 2**60) + b"{}", Code.HEADER_TOO_LARGE)
header_case("header-longer-than-file", lambda: struct.pack("<Q", 10_000) + b"{}")
header_case("header-not-json", lambda: pack(b"{" + b"x" * 30, b""))
header_case("header-not-utf8", lambda: pack(b'{"\xff\xfe": 1}', b""))
header_case("header-a-list", lambda: pack(b"[]", b""))
header_case("header-starts-with-space", lambda: pack(b" {}", b""))
header_case("header-no-tensors", lambda: pack({}, b""))
header_case(
    "header-nested-100000-deep", lambda: pack(b'{"a":' + b"[" * 100_000, b""), Code.HEADER_TOO_LARGE
)
header_case("header-duplicate-key", lambda: pack(b'{"a":1,"a":2}', b""))
header_case("header-nan-constant", lambda: pack(b'{"a":NaN}', b""))
header_case("header-huge-integer", lambda: pack(b'{"a":' + b"9" * 5000 + b"}", b""))
header_case("metadata-not-strings", lambda: pack({"__metadata__": {"a": 1}, **entries()}, b""))
header_case("metadata-a-list", lambda: pack({"__metadata__": [], **entries()}, b""))
header_case("entry-not-object", lambda: pack({"a": 1}, b""))
header_case("entry-extra-key", lambda: pack(edited(V, evil=1), data_of(entries())))
header_case("unknown-dtype", lambda: pack(edited(V, dtype="F33"), data_of(entries())))
header_case("dtype-not-string", lambda: pack(edited(V, dtype=["F32"]), data_of(entries())))
header_case("negative-shape", lambda: pack(edited(V, shape=[-4]), data_of(entries())))
header_case("bool-shape", lambda: pack(edited(V, shape=[True]), data_of(entries())))
header_case("float-shape", lambda: pack(edited(V, shape=[4.0]), data_of(entries())))
header_case("shape-overflow", lambda: pack(edited(V, shape=[2**62, 2**62]), data_of(entries())))
header_case("shape-of-65-ones", lambda: pack(edited(V, shape=[4] + [1] * 64), data_of(entries())))
header_case("shape-size-mismatch", lambda: pack(edited(V, shape=[5]), data_of(entries())))
header_case("offsets-three", lambda: pack(edited(V, data_offsets=[224, 230, 240]), b"\0" * 240))
header_case("offsets-reversed", lambda: pack(edited(V, data_offsets=[240, 224]), b"\0" * 240))
header_case("offsets-overlap", lambda: pack(edited(V, data_offsets=[208, 224]), b"\0" * 240))
header_case("offsets-hole", lambda: pack(edited(V, data_offsets=[232, 248]), b"\0" * 248))
header_case("offsets-past-end", lambda: pack(entries(), data_of(entries())[:-1]))
header_case("trailing-bytes", lambda: honest() + b"PK\x03\x04 a zip follows")
header_case("four-bit-half-byte", lambda: pack(edited(V, dtype="F4", shape=[31]), b"\0" * 240))
header_case("header-starts-with-bom", lambda: pack(b"\xef\xbb\xbf{}", b""))
header_case("header-utf16", lambda: pack('{"a":1}'.encode("utf-16"), b""))
header_case("header-two-objects", lambda: pack(b"{}{}", b""))
header_case("header-cut-short", lambda: honest()[:40])
header_case("header-control-character", lambda: pack(b'{"a\x01":1}', b""))
header_case("header-nested-in-dtype", lambda: pack(edited(V, dtype=nested(15)), b""))
header_case("header-of-zeros", lambda: struct.pack("<Q", 0) + b"\0" * 100)
header_case("header-length-negative", lambda: b"\xff" * 8 + b"{}", Code.HEADER_TOO_LARGE)
header_case("name-half-a-character", lambda: pack(renamed("\ud800"), data_of(entries())))
header_case("offset-of-2^63", lambda: pack(edited(V, data_offsets=[2**63, 2**63]), b"\0" * 240))
header_case("offset-of-5000-digits", lambda: pack(honest()[8:].replace(b"224", b"9" * 5000), b""))
header_case("offsets-shared", lambda: pack(edited(V, data_offsets=[0, 16]), data_of(entries())))
header_case("half-a-tensor-lost", lambda: honest()[:-8])
header_case("duplicate-tensor", lambda: pack(doubled(V), data_of(entries())))
header_case("duplicate-offsets", lambda: pack(doubled("data_offsets"), data_of(entries())))
header_case(
    "five-times-the-tensors",
    lambda: pack(entries({**SHAPES, **{f"t{i}": [0] for i in range(12)}}), b"\0" * 240),
    Code.TOO_MANY_TENSORS,
)
header_case(
    "more-tensors-than-any-model",
    lambda: pack(entries({f"t{i}": [0] for i in range(300_000)}), b""),
    Code.TOO_MANY_TENSORS,
)
header_case(
    "metadata-of-26-mb",
    lambda: pack({"__metadata__": {"a": "x" * 26_000_000}, **entries()}, data_of(entries())),
    Code.HEADER_TOO_LARGE,
)
header_case(
    "a-million-notes",
    lambda: pack(
        {"__metadata__": dict.fromkeys(map(str, range(1_000_000)), ""), **entries()},
        data_of(entries()),
    ),
    Code.HEADER_TOO_LARGE,
)
header_case(
    "million-empty-lists", lambda: pack(b'{"a":[' + b"[]," * 1_000_000, b""), Code.HEADER_TOO_LARGE
)


@case("weights-are-a-link", Code.UNSAFE_FILE)
def _(folder: Path) -> None:
    write_base(folder)
    (folder / "model.safetensors").rename(folder / "elsewhere")
    os.symlink("elsewhere", folder / "model.safetensors")


@case("weights-link-outside", Code.UNSAFE_FILE)
def _(folder: Path) -> None:
    write_base(folder)
    (folder / "model.safetensors").unlink()
    os.symlink("/etc/hostname", folder / "model.safetensors")


@case("weights-are-a-folder", Code.UNSAFE_FILE)
def _(folder: Path) -> None:
    (folder / "model.safetensors").mkdir(parents=True)


@case("weights-are-a-pipe", Code.UNSAFE_FILE)
def _(folder: Path) -> None:
    folder.mkdir(parents=True)
    os.mkfifo(folder / "model.safetensors")


@case("names-differ-by-case", Code.UNSAFE_FILE)
def _(folder: Path) -> None:
    write_base(folder)
    (folder / "Model.safetensors").write_bytes(honest())


@case("shard-is-a-link", Code.UNSAFE_FILE)
def _(folder: Path) -> None:
    write_sharded(folder)
    (folder / SECOND).rename(folder / "elsewhere")
    os.symlink("elsewhere", folder / SECOND)


@case("shard-is-a-folder", Code.UNSAFE_FILE)
def _(folder: Path) -> None:
    write_sharded(folder)
    (folder / SECOND).unlink()
    (folder / SECOND).mkdir()


@case("shard-cut-short", Code.BAD_SAFETENSORS)
def _(folder: Path) -> None:
    write_sharded(folder)
    os.truncate(folder / SECOND, (folder / SECOND).stat().st_size - 1)


@case("shard-empty", Code.BAD_SAFETENSORS)
def _(folder: Path) -> None:
    write_sharded(folder)
    (folder / SECOND).write_bytes(b"")


@case("shards-differ-by-case", Code.UNSAFE_FILE)
def _(folder: Path) -> None:
    write_sharded(folder)
    (folder / SECOND.upper().replace("SAFETENSORS", "safetensors")).write_bytes(honest())


@case("headers-large-together", Code.HEADER_TOO_LARGE)
def _(folder: Path) -> None:
    write_sharded(folder)
    for file in folder.glob("*.safetensors"):
        raw = file.read_bytes()
        n = int.from_bytes(raw[:8], "little")
        padded = {"__metadata__": {"a": "x" * 13_000_000}, **json.loads(raw[8 : 8 + n])}
        file.write_bytes(pack(padded, raw[8 + n :]))


# ------------------------------------------------------------------------------ index


def index_case(name: str, shard: object, code: Code = Code.BAD_INDEX) -> None:
    case(name, code)(lambda folder: write_sharded(folder, {V: shard}))


index_case("index-parent", "../model.safetensors")
index_case("index-absolute", "/etc/model.safetensors")
index_case("index-drive", "C:model.safetensors")
index_case("index-drive-path", "C:\\model.safetensors")
index_case("index-unc", "\\\\host\\share\\model.safetensors")
index_case("index-backslash-parent", "..\\model.safetensors")
index_case("index-subfolder", "sub/model.safetensors")
index_case("index-device", "NUL.safetensors")
index_case("index-device-with-number", "com1.x.safetensors")
index_case("index-nul-byte", "model\0.safetensors")
index_case("index-newline", "model.safetensors\n")
index_case("index-unicode-slash", "model∕a.safetensors")
index_case("index-dot-file", ".safetensors")
index_case("index-to-pickle", "pytorch_model.bin")
index_case("index-not-a-string", 7)
index_case("index-nested", nested(700))
index_case("index-device-path", "\\\\.\\PhysicalDrive0\\model.safetensors")
index_case("index-stream", "model.safetensors:hidden.safetensors")
index_case("index-percent-parent", "%2e%2e%2fmodel.safetensors")
index_case("index-space-at-end", "model.safetensors ")
index_case("index-dot-at-end", "model.safetensors.")
index_case("index-two-dots", "...safetensors")
index_case("index-of-300-letters", f"{'m' * 300}.safetensors")
index_case("index-right-to-left", "model\u202e.safetensors")
index_case("index-console", "CONIN$.safetensors")
index_case("index-empty-string", "")
index_case("index-case-twins", "MODEL-00001-of-00002.safetensors")
index_case("index-wrong-shard", "model-00001-of-00002.safetensors")
index_case("index-shard-absent", "model-00003-of-00003.safetensors", Code.MISSING_SHARD)
case("index-names-extra-tensor", Code.BAD_INDEX)(
    lambda folder: write_sharded(folder, {"ghost": "model-00001-of-00002.safetensors"})
)


@case("shard-deleted", Code.MISSING_SHARD)
def _(folder: Path) -> None:
    write_sharded(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


@case("index-lacks-a-tensor", Code.BAD_INDEX)
def _(folder: Path) -> None:
    write_sharded(folder)
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    write_index(folder, {n: f for n, f in index.items() if n != U})


@case("index-beside-another-model", Code.BAD_INDEX)
def _(folder: Path) -> None:
    write_sharded(folder)
    (folder / "model.safetensors").write_bytes(honest())


@case("index-of-some-in-the-single-file", Code.BAD_INDEX)
def _(folder: Path) -> None:
    write_sharded(folder)
    (folder / "model.safetensors").write_bytes(honest())
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    write_index(folder, {**index, U: "model.safetensors"})


@case("tensor-in-two-shards", Code.BAD_INDEX)
def _(folder: Path) -> None:
    write_sharded(folder)
    (folder / "model-00002-of-00002.safetensors").write_bytes(honest())


@case("index-not-json", Code.BAD_INDEX)
def _(folder: Path) -> None:
    write_sharded(folder)
    (folder / "model.safetensors.index.json").write_bytes(b"\x80\x04")


@case("index-without-map", Code.BAD_INDEX)
def _(folder: Path) -> None:
    write_sharded(folder)
    write_index(folder, [])


def index_bytes(name: str, make: Callable[[], bytes], code: Code = Code.BAD_INDEX) -> None:
    def fill(folder: Path) -> None:
        write_sharded(folder)
        (folder / "model.safetensors.index.json").write_bytes(make())

    case(name, code)(fill)


index_bytes(
    "index-of-numbers", lambda: b'{"a":[' + b"0," * 5_000_000 + b'0],"weight_map":{"a":"b"}}'
)


index_bytes("index-empty-file", lambda: b"")
index_bytes("index-not-utf8", lambda: b'{"weight_map": {"\xff": "a.safetensors"}}')
index_bytes("index-a-list", lambda: b"[]")
index_bytes("index-empty-map", lambda: b'{"weight_map": {}}')
index_bytes("index-duplicate-key", lambda: b'{"weight_map": {"a": "b", "a": "c"}}')
index_bytes("index-two-maps", lambda: b'{"weight_map": {"a": "b"}, "weight_map": {"a": "b"}}')
index_bytes("index-nested-100000-deep", lambda: b'{"weight_map": ' + b"[" * 100_000)
index_bytes("index-nan", lambda: b'{"metadata": {"total_size": NaN}, "weight_map": {"a": "b"}}')
index_bytes("index-million-lists", lambda: b'{"metadata":[' + b"[]," * 1_000_000)
index_bytes("index-million-names", lambda: json.dumps({str(i): "" for i in range(10**6)}).encode())
index_bytes("index-of-26-mb", lambda: b"{" + b" " * 26_000_000 + b"}", Code.HEADER_TOO_LARGE)


@case("index-a-link", Code.UNSAFE_FILE)
def _(folder: Path) -> None:
    write_sharded(folder)
    (folder / "model.safetensors.index.json").rename(folder / "i.json")
    os.symlink("i.json", folder / "model.safetensors.index.json")


# ------------------------------------------------------------------------------ against the base


def tensors_case(
    name: str, code: Code, shapes: Mapping[str, list[int] | None], dtype: str = "F32", size: int = 4
) -> None:
    kept = {n: s for n, s in {**SHAPES, **shapes}.items() if s is not None}
    header = entries(kept, dtype, size)
    end = max(e["data_offsets"][1] for e in header.values())
    case(name, code)(lambda folder: write_tensors(folder, header, b"\0" * end))


tensors_case("missing-tensor", Code.WRONG_TENSORS, {U: None})
tensors_case("extra-bias", Code.WRONG_TENSORS, {"model.layers.0.mlp.up_proj.bias": [6]})
tensors_case("adapter-remains", Code.WRONG_TENSORS, {f"{U[:-7]}.lora_A.default.weight": [2, 4]})
tensors_case("name-with-dots", Code.WRONG_TENSORS, {"../../x": [1]})
tensors_case("transposed", Code.WRONG_SHAPES, {U: [4, 6]})
tensors_case("padded-vocabulary", Code.WRONG_SHAPES, {"model.embed_tokens.weight": [64, 4]})
tensors_case("head-of-other-size", Code.WRONG_TENSORS, {"lm_head.weight": [9, 4]})
tensors_case("fp8", Code.QUANTISED, {}, "F8_E4M3", 1)
tensors_case("int8-matrices", Code.QUANTISED, {}, "I8", 1)
tensors_case("integer-weights", Code.WRONG_DTYPES, {}, "I32", 4)
tensors_case("complex-weights", Code.WRONG_DTYPES, {}, "C64", 8)
tensors_case("fp8-scales", Code.QUANTISED, {f"{U}_scale_inv": [1]})
tensors_case("gptq", Code.QUANTISED, {U: None, f"{U[:-7]}.qweight": [1, 4]})
tensors_case("bnb-absmax", Code.QUANTISED, {f"{U}.absmax": [1]})


def config_case(name: str, code: Code, **changes: object) -> None:
    def fill(folder: Path) -> None:
        write_base(folder)
        kept = {k: v for k, v in {**CONFIG, **changes}.items() if v != "ABSENT"}
        write_json(folder, "config.json", kept)

    case(name, code)(fill)


config_case("other-model-type", Code.OTHER_ARCHITECTURE, model_type="mistral")
config_case("other-class", Code.OTHER_ARCHITECTURE, architectures=["LlamaForTokenClassification"])
config_case("auto-map", Code.NEEDS_CODE, auto_map={"AutoModel": "evil--x.Model"})
config_case("nested-trust", Code.NEEDS_CODE, text_config={"trust_remote_code": True})
config_case("attention-from-hub", Code.NEEDS_CODE, _attn_implementation_internal="evil/kernel")
config_case("attention-from-list", Code.NEEDS_CODE, attn_implementation=["evil/kernel"])
config_case("other-theta", Code.CONFIG_MISMATCH, rope_theta=1e6, rope_parameters="ABSENT")
config_case("other-scaling", Code.CONFIG_MISMATCH, rope_scaling={"type": "linear", "factor": 2.0})
config_case("other-eps", Code.CONFIG_MISMATCH, rms_norm_eps=1e-5)
config_case("sliding-window", Code.CONFIG_MISMATCH, sliding_window=128)
config_case("unknown-key", Code.CONFIG_MISMATCH, logit_warp=0.5)
config_case("size-lies", Code.CONFIG_MISMATCH, hidden_size=8)
config_case("size-a-boolean", Code.CONFIG_MISMATCH, num_hidden_layers=True)
config_case("declares-gptq", Code.QUANTISED, quantization_config={"quant_method": "gptq"})


@case("config-a-bomb", Code.CONFIG_MISMATCH)
def _(folder: Path) -> None:
    write_base(folder)
    (folder / "config.json").write_bytes(b'{"a":' * 100_000)


def small_case(name: str, code: Code, file: str, make: Callable[[], bytes]) -> None:
    def fill(folder: Path) -> None:
        write_base(folder)
        (folder / file).write_bytes(make())

    case(name, code)(fill)


C, T = "config.json", "tokenizer.json"
small_case("config-empty", Code.CONFIG_MISMATCH, C, lambda: b"")
small_case("config-a-list", Code.CONFIG_MISMATCH, C, lambda: b"[1]")
small_case("config-not-utf8", Code.CONFIG_MISMATCH, C, lambda: b'{"a": "\xff"}')
small_case("config-utf16", Code.CONFIG_MISMATCH, C, lambda: json.dumps(CONFIG).encode("utf-16"))
small_case("config-infinite", Code.CONFIG_MISMATCH, C, lambda: b'{"rms_norm_eps": Infinity}')
small_case("config-5000-digits", Code.CONFIG_MISMATCH, C, lambda: b'{"a": ' + b"9" * 5000 + b"}")
small_case("config-of-11-mb", Code.HEADER_TOO_LARGE, C, lambda: b"{" + b" " * 11_000_000 + b"}")
small_case("tokenizer-empty", Code.VOCAB_MISMATCH, T, lambda: b"")
small_case("tokenizer-not-utf8", Code.VOCAB_MISMATCH, T, lambda: b'{"\xff": 1}')
small_case("tokenizer-a-bomb", Code.VOCAB_MISMATCH, T, lambda: b'{"model":' * 100_000)


def linked_case(file: str) -> None:
    @case(f"{file}-a-link", Code.UNSAFE_FILE)
    def _(folder: Path) -> None:
        write_base(folder)
        (folder / file).unlink()
        os.symlink("/etc/hostname", folder / file)


linked_case(C)
linked_case(T)
config_case("other-eps-beyond-double", Code.CONFIG_MISMATCH, rms_norm_eps=10**400)
config_case("kernel-in-a-list", Code.NEEDS_CODE, layers=[{"auto_map": {"AutoModel": "e.M"}}])
config_case("quantised-inside", Code.QUANTISED, text_config={"quantization_config": {"bits": 4}})
config_case("nested-900-deep", Code.CONFIG_MISMATCH, new_key=json.loads("[" * 900 + "]" * 900))


def tokenizer_case(name: str, **changes: object) -> None:
    def fill(folder: Path) -> None:
        write_base(folder)
        model = {**TOKENIZER["model"], **changes}
        write_json(folder, "tokenizer.json", {**TOKENIZER, "model": model})

    case(name, Code.VOCAB_MISMATCH)(fill)


tokenizer_case("permuted-vocabulary", vocab={"<s>": 0, "b": 1, "a": 2, "ab": 3})
tokenizer_case("extra-token", vocab={"<s>": 0, "a": 1, "b": 2, "ab": 3, "c": 4})
tokenizer_case("other-merges", merges=["b a"])
tokenizer_case("other-algorithm", type="WordLevel", merges=[])
tokenizer_case("vocabulary-a-list-of-junk", vocab=[1, [2], ["a", 1, 2], nested(700)])
tokenizer_case("ids-nested", vocab={"<s>": 0, "a": nested(700), "b": 2, "ab": 3})
tokenizer_case("algorithm-nested", type=nested(700))


@case("added-token-nested", Code.VOCAB_MISMATCH)
def _(folder: Path) -> None:
    write_base(folder)
    added = [*TOKENIZER["added_tokens"], {"id": 9, "content": nested(700)}]
    write_json(folder, "tokenizer.json", {**TOKENIZER, "added_tokens": added})


# ------------------------------------------------------------------------------ adapters


def adapter_case(
    name: str,
    code: Code,
    *,
    config: Mapping[str, object] | bytes = {},
    shapes: Mapping[str, list[int]] | None = None,
    dtype: str = "F32",
    raw: bytes | None = None,
) -> None:
    """An adapter of the base, wrong in one respect."""

    def fill(folder: Path) -> None:
        folder.mkdir(parents=True)
        header = entries(shapes or HALVES, dtype, 1 if dtype.startswith("F8") else 4)
        end = max(e["data_offsets"][1] for e in header.values())
        data = pack(header, b"\0" * end) if raw is None else raw
        (folder / "adapter_model.safetensors").write_bytes(data)
        named = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
        text = config if isinstance(config, bytes) else json.dumps({**named, **config}).encode()
        (folder / "adapter_config.json").write_bytes(text)

    case(name, code)(fill)


A = f"base_model.model.{U[:-7]}.lora_A.weight"
B = f"base_model.model.{U[:-7]}.lora_B.weight"
HALVES = {A: [2, 4], B: [6, 2]}
NOT_LORA = Code.UNSUPPORTED_ADAPTER
adapter_case("adapter-config-a-bomb", NOT_LORA, config=b'{"a":' * 100_000)
adapter_case("adapter-config-not-utf8", NOT_LORA, config=b"\xff")
adapter_case("adapter-alpha-nested", NOT_LORA, config={"lora_alpha": nested(700)})
adapter_case("adapter-alpha-infinite", NOT_LORA, config=b'{"peft_type":"LORA","lora_alpha":1e999}')
adapter_case("adapter-type-nested", NOT_LORA, config={"peft_type": nested(700)})
adapter_case("adapter-pattern-of-death", NOT_LORA, config={"alpha_pattern": {"(a+)+$": 1}})
adapter_case("adapter-runs-code", NOT_LORA, config={"auto_map": None, "custom": "evil.py"})
adapter_case("adapter-fp8", NOT_LORA, dtype="F8_E4M3")
adapter_case("adapter-half-missing", NOT_LORA, shapes={A: [2, 4]})
adapter_case("adapter-of-rank-0", Code.WRONG_SHAPES, shapes={A: [0, 4], B: [6, 0]})
adapter_case("adapter-other-rank", Code.WRONG_SHAPES, shapes={A: [3, 4], B: [6, 2]})
adapter_case("adapter-cut-short", Code.BAD_SAFETENSORS, raw=honest()[:-1])
adapter_case(
    "adapter-of-another-model", Code.WRONG_TENSORS,
    shapes={A.replace("layers.0", "layers.9"): [2, 4], B.replace("layers.0", "layers.9"): [6, 2]},
)  # fmt: skip
adapter_case(
    "adapter-of-many-tensors", Code.TOO_MANY_TENSORS,
    shapes={**HALVES, **{f"base_model.model.x{i}.lora_A.weight": [0, 1] for i in range(12)}},
)  # fmt: skip


@case("adapter-without-weights", Code.MISSING_SHARD)
def _(folder: Path) -> None:
    folder.mkdir(parents=True)
    write_json(folder, "adapter_config.json", {"peft_type": "LORA"})


@case("adapter-weights-a-link", Code.UNSAFE_FILE)
def _(folder: Path) -> None:
    CASES["adapter-fp8"][1](folder)
    (folder / "adapter_model.safetensors").unlink()
    os.symlink("/etc/hostname", folder / "adapter_model.safetensors")


def write_all(root: Path) -> None:
    for name, (_code, fill) in CASES.items():
        fill(root / name)


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
