"""What a repository says about itself: card metadata, derived tags, config, safetensors summary.

The tags follow the Hub's conventions. The relation to a base model is `base_model_relation` where
the card sets it; otherwise more than one base means merge, an adapter_config.json adapter, a
quantised format quantized, anything else finetune. (The Hub's documentation only says that it
infers the relation and that the field wins; the order of the rest is ours.)

Cards and configs are strangers' text: nothing here raises on bad ones, they say less instead.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_CARD = 1 << 20
RELATIONS = ("adapter", "finetune", "merge", "quantized")
FORMATS = (  # tag, how a file of that format ends
    ("safetensors", ".safetensors"),
    ("pytorch", "pytorch_model.bin"),
    ("gguf", ".gguf"),
    ("onnx", ".onnx"),
)


@dataclass(frozen=True)
class Facts:
    """All values are plain JSON. `bases` are the ids of the base models, in the card's order."""

    card: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    library: str | None = None
    pipeline: str | None = None
    config: Mapping[str, Any] | None = None
    safetensors: Mapping[str, Any] | None = None
    bases: Sequence[str] = ()
    relation: str | None = None


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases: a few lines of them expand to gigabytes of JSON."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed in a card")
        return super().compose_node(parent, index)


def parse_card(text: str) -> tuple[dict[str, Any], str]:
    """Splits a README into its YAML front matter and the Markdown body.

    Raises ValueError with the reason if the front matter is not a YAML mapping.
    """
    match = re.match(r"\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*$\r?\n?", text, re.DOTALL | re.MULTILINE)
    if match is None:
        return {}, text
    try:
        data = yaml.load(match[1], Loader=_PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"Invalid YAML in the front matter: {error}") from error
    if data is not None and not isinstance(data, dict):
        raise ValueError("Invalid YAML in the front matter: not a mapping")
    return _plain(data or {}), text[match.end() :]


def _plain(value: Any) -> Any:
    """The same in JSON's types and in valid Unicode; what has no counterpart becomes text."""
    if isinstance(value, dict):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, bool | None):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else hex(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value).encode("utf-8", "replace").decode()


def derive(files: Sequence[str], read: Callable[[str], bytes], safetensors: Any = None) -> Facts:
    """The facts of a tree: `files` are its paths, `read` gives a small file's contents."""
    readme = read("README.md")[:MAX_CARD].decode("utf-8", "replace") if "README.md" in files else ""
    try:
        card, body = parse_card(readme)
    except ValueError:
        card, body = {}, readme
    config = _config(read("config.json")) if "config.json" in files else None
    bases = texts(card.get("base_model"))
    relation = _relation(card, bases, files, config) if bases else None
    library, pipeline = text(card.get("library_name")), text(card.get("pipeline_tag"))
    tags = _tags(card, body, files, config, bases, relation)
    return Facts(card, tags, library, pipeline, config, safetensors, bases, relation)


def _tags(
    card: Mapping[str, Any],
    body: str,
    files: Sequence[str],
    config: Mapping[str, Any] | None,
    bases: Sequence[str],
    relation: str | None,
) -> list[str]:
    config = config or {}
    tags = [text(card.get("library_name"))]
    tags += [tag for tag, end in FORMATS if any(name.endswith(end) for name in files)]
    tags += [text(config.get("model_type")), text(card.get("pipeline_tag"))]
    tags += ["model-index"] if "model-index" in card else []
    tags += texts(card.get("tags"))
    tags += ["custom_code"] if "auto_map" in config else []
    tags += texts(card.get("language"))
    tags += [f"dataset:{name}" for name in texts(card.get("datasets"))]
    tags += [f"arxiv:{paper}" for paper in re.findall(r"arxiv\.org/\w+/(\d{4}\.\d{4,5})", body)]
    tags += [f"base_model:{base}" for base in bases]
    tags += [f"base_model:{relation}:{base}" for base in bases if relation]
    tags += [f"license:{name}" for name in texts(card.get("license"))]
    return list(dict.fromkeys(tag for tag in tags if tag))


def _relation(
    card: Mapping[str, Any],
    bases: Sequence[str],
    files: Sequence[str],
    config: Mapping[str, Any] | None,
) -> str | None:
    stated = card.get("base_model_relation")
    if stated in RELATIONS:
        return str(stated)
    if any(name.startswith("custom_generate/") for name in files):
        return None  # a way of decoding with these models, not one made of them
    if len(bases) > 1:
        return "merge"
    if "adapter_config.json" in files:
        return "adapter"
    quantised = any(name.endswith(".gguf") for name in files)
    return "quantized" if quantised or "quantization_config" in (config or {}) else "finetune"


def _config(raw: bytes) -> dict[str, Any] | None:
    """The few keys of config.json that the Hub shows."""
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(config, dict):
        return None
    shown = ("architectures", "model_type", "auto_map", "quantization_config")
    return {key: _plain(config[key]) for key in shown if key in config}


def texts(value: object) -> list[str]:
    """A card field that may be one text or a list of texts."""
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, str) and item]


def text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
