"""Writes `saved.jsonl`: configurations as one version of transformers saves them, and a later one.

    python tests/merge_engine/saved.py first > 4.57.1.json           in an older environment
    python tests/merge_engine/saved.py again 4.57.1.json > 5.json    in a newer one
    python tests/merge_engine/saved.py pairs 4.57.1.json 5.json ...  >> saved.jsonl

The file in the repository has 4.57.1, 4.46.3, 4.40.2 and 4.36.2, each saved again by 5.23.0: every
class that writes text with its defaults, and 4.57.1 also with values that real models have. A line
is what the first version saved and what then changed; a variant, what differs from the defaults.
Left out: keys that may differ anyway, and versions that save what a later one does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

KINDS = ("CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "VISION_2_SEQ")
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "theta": {"rope_theta": 12345.0},
    "yarn": {"rope_scaling": YARN},
    "linear": {"rope_scaling": {"type": "linear", "factor": 2.0}},
    "llama3": {"rope_scaling": LLAMA3, "rope_theta": 500000.0},
    "sizes": {"num_key_value_heads": 2, "head_dim": 96},
    "window": {"sliding_window": 512, "use_sliding_window": True, "max_window_layers": 3},
    "no window": {"sliding_window": None},
    "values": {"rms_norm_eps": 1e-3, "layer_norm_eps": 1e-3, "hidden_act": "gelu"},
    "experts": {"num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4},
    "share": {"partial_rotary_factor": 0.75},
    "bias": {"attention_bias": True},
}


def first() -> dict[str, dict[str, Any]]:
    """Name -> what the version that is installed saves."""
    import transformers
    from transformers import CONFIG_MAPPING
    from transformers.models.auto import modeling_auto

    named: dict[str, Any] = {}
    for kind in KINDS:
        named = {**getattr(modeling_auto, f"MODEL_FOR_{kind}_MAPPING_NAMES", {}), **named}
    version, found = transformers.__version__, {}
    for kind, model in sorted(named.items()):
        changes = VARIANTS if version == "4.57.1" and kind in modeling_auto\
            .MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else {}  # fmt: skip
        architecture = model if isinstance(model, str) else model[0]
        for name, change in {"": {}, **changes}.items():
            saved = _saved(CONFIG_MAPPING[kind], architecture, change)
            if saved is not None:
                found[f"{kind} {version} {name}".strip()] = saved
    return found


def again(files: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What this version makes of them; those that it does not read are left out."""
    from transformers import AutoConfig

    found = {}
    for name, config in files.items():
        with TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(config))
            try:
                AutoConfig.from_pretrained(folder).save_pretrained(folder)
            except Exception as error:  # noqa: BLE001  # whatever its checks raise
                print(name, type(error).__name__, file=sys.stderr)
                continue
            found[name] = json.loads((Path(folder) / "config.json").read_text())
    return found


def pairs(old: dict[str, Any], new: dict[str, Any], known: dict[str, Any]) -> Iterator[str]:
    """Lines for all that is in both; `known`: kind -> what a later version saved."""
    seen: dict[str, tuple[Any, Any]] = {}
    for name in old:
        if name not in new:
            continue
        kind, version, *variant = name.split(" ", 2)
        saved, then = _bare(old[name]), _bare(new[name])
        if not variant and known.get(kind) == saved:
            continue
        known[kind] = known[kind] if variant else saved
        line: dict[str, Any] = {"name": name, "saved": saved, "again": change(saved, then)}
        if variant:
            saved_usual, then_usual = seen[f"{kind} {version}"]
            line["saved"], line["again"] = change(saved_usual, saved), change(then_usual, then)
        seen[name] = saved, then
        yield json.dumps(line)


def change(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    """What to take from `one`, and what to put there, to have `two`."""
    put = {key: value for key, value in two.items() if key not in one or one[key] != value}
    return {"take": [key for key in one if key not in two], "put": put}


def read(file: Path) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, configuration as saved first, and as saved again."""
    seen: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for text in file.read_text().splitlines():
        line = json.loads(text)
        kind, version, *variant = line["name"].split(" ", 2)
        saved, then = line["saved"], {}
        if variant:
            usual = seen[f"{kind} {version}"]
            saved, then = _changed(usual[0], saved), _changed(usual[1], line["again"])
        else:
            then = _changed(saved, line["again"])
        seen[line["name"]] = saved, then
        yield line["name"], saved, then


def _bare(config: dict[str, Any]) -> dict[str, Any]:
    from merge.configs import harmless

    return {
        key: _bare(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if not harmless(key)
    }


def _changed(config: dict[str, Any], by: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if key not in by["take"]}
    return {**kept, **by["put"]}


def _saved(cls: Any, architecture: str, change: dict[str, Any]) -> dict[str, Any] | None:
    try:
        usual = cls()
        known = {key: value for key, value in change.items() if hasattr(usual, key)}
        if change and not known:
            return None
        config = cls(**json.loads(json.dumps(known)))
        config.architectures = [architecture]
        with TemporaryDirectory() as folder:
            config.save_pretrained(folder)
            return json.loads((Path(folder) / "config.json").read_text())
    except Exception as error:  # noqa: BLE001  # some cannot be made so, each for its own reason
        print(architecture, change, type(error).__name__, file=sys.stderr)
        return None


def main() -> None:
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    what, *files = sys.argv[1:]
    read_in = [json.loads(Path(file).read_text()) for file in files]
    if what == "first":
        print(json.dumps(first()))
    elif what == "again":
        print(json.dumps(again(*read_in)))
    else:
        known: dict[str, Any] = {}
        for old, new in zip(read_in[::2], read_in[1::2], strict=True):
            print("\n".join(pairs(old, new, known)))


if __name__ == "__main__":
    main()
