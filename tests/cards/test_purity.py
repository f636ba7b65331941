"""Rendering a page needs neither a model, nor a Hub, nor a picture library."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["bot.cards", "bot.provenance"])
def test_imports_are_light(module):
    heavy = {
        "torch",
        "transformers",
        "matplotlib",
        "scipy",
        "numpy",
        "huggingface_hub",
        "sqlalchemy",
    }
    code = f"import sys, {module}; print(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
