"""Versions of what a publication was made with."""

from __future__ import annotations

from importlib.metadata import version

PACKAGES = ("stockpot", "torch", "transformers", "safetensors", "lm-eval", "numpy")


def software() -> dict[str, str]:
    """Package -> installed version, read from metadata: nothing is imported."""
    return {package: version(package) for package in PACKAGES}
