"""The files of a router repository on the Hub, card excepted.

`custom_generate/` holds the modules of this package as they are, flat, plus the settings module
with the router in it. They import torch, transformers, the standard library and each other only.
"""

from pathlib import Path

from .config import RouterConfig

#: What `generate` needs; calibration and measures stay in the library.
MODULES = (
    "block",
    "config",
    "decode",
    "drafts",
    "figures",
    "generate",
    "lengths",
    "noise",
    "page",
    "pins",
    "plain",
    "policy",
    "prompts",
    "rules",
    "side",
    "vocab",
    "warp",
    "words",
)
#: transformers checks these lines, one operator each, and refuses to run where they do not hold.
#: Before 5.10 it does not copy what the modules of a local folder import from each other.
REQUIREMENTS = "transformers>=5.10\n"


def repository_files(config: RouterConfig) -> dict[str, bytes]:
    """Path in the repository to content."""
    here = Path(__file__).parent
    files = {f"custom_generate/{name}.py": (here / f"{name}.py").read_bytes() for name in MODULES}
    files["custom_generate/settings.py"] = settings_module(config).encode()
    files["custom_generate/requirements.txt"] = REQUIREMENTS.encode()
    files["router.json"] = config.to_json().encode()
    return files


def settings_module(config: RouterConfig) -> str:
    """`settings.py` with the router as a string literal, which cannot run anything."""
    return (
        '"""The router of this repository, as in router.json, for the code beside it."""\n\n'
        f"ROUTER_JSON = {config.canonical()!r}\n"
    )
