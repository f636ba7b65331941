"""Soups of checkpoints: open, compare, select, search, merge (SoCE, arXiv 2511.13254).

Public names load on first use (PEP 562), so that `import merge` costs nothing and a process that
only compares headers never loads torch.
"""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "Code": "errors",
    "Refused": "errors",
    "Layout": "checkpoint",
    "TensorSpec": "checkpoint",
    "read_layout": "checkpoint",
    "compare_configs": "compat",
    "compare_layouts": "compat",
    "compare_tokenizers": "compat",
    "Member": "recipe",
    "Recipe": "recipe",
    "parse_weight": "recipe",
    "SoupPlan": "plan",
    "plan_soup": "soup",
    "refusals": "plan",
    "SoupReport": "soup",
    "write_soup": "soup",
    "Blend": "mergekit",
    "from_mergekit_yaml": "mergekit",
    "to_mergekit_yaml": "mergekit",
    "LiveSoup": "live",
    "Health": "fingerprints",
    "examine": "fingerprints",
    "fingerprint": "fingerprints",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'merge' has no attribute {name!r}")
    return getattr(import_module(f"merge.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
