"""Where files lie on this machine. Every folder is named by content and can be made again.

    data/models/ORG--NAME@SHA/   a candidate's weights, hash-checked, and nothing else of it
    data/trusted/ORG--NAME@SHA/  config, tokenizer and texts of the base or of the operator's donor
    data/soups/DIGEST/           a soup's weights, by recipe
    data/drafts/KIND-DIGEST-VN/  a publication as it will be sent

From a stranger only tensors are taken: `models` never holds a config or a tokenizer.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from bot.config import BaseSection
from bot.hub import FileFact
from bot.world import World
from db.reader import CandidateRow, FileRow

TRUSTED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
TEXTS = ("LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.txt")


def fetch_weights(world: World, candidate: CandidateRow) -> tuple[Path, int]:
    """The candidate's tensors on disk, and how many bytes were downloaded for them now."""
    folder = world.data / "models" / _name(candidate.repo, candidate.sha)
    fresh = not folder.exists()
    files = [_fact(file) for file in candidate.files]
    world.hub.fetch(candidate.repo, candidate.sha, files, folder)
    return folder, sum(file.size for file in candidate.files) if fresh else 0


def donor_of(section: BaseSection) -> tuple[str, str]:
    """Repo and sha that config, tokenizer and chat template come from."""
    repo, _, sha = (section.donor or f"{section.repo}@{section.sha}").partition("@")
    return repo, sha


def fetch_trusted(world: World, section: BaseSection) -> Path:
    """Config and tokenizer of the base, or of the donor that the operator named."""
    return fetch_texts(world, *donor_of(section))


def fetch_texts(world: World, repo: str, sha: str) -> Path:
    """The allow-listed small files of a repository that the operator pinned."""
    folder = world.data / "trusted" / _name(repo, sha)
    if not folder.exists():
        facts = world.hub.info(repo, sha)
        files = [file for file in facts.files if file.path in (*TRUSTED, *TEXTS)]
        world.hub.fetch(repo, sha, files, folder)
    return folder


def fetch_model(world: World, repo: str, sha: str) -> Path:
    """The tensors of a model that the operator pinned (a router's side)."""
    folder = world.data / "models" / _name(repo, sha)
    if not folder.exists():
        facts = world.hub.info(repo, sha)
        files = [file for file in facts.files if is_weights(file.path)]
        world.hub.fetch(repo, sha, files, folder)
    return folder


def is_weights(path: str) -> bool:
    """The model's own tensors or their index, at the top of the repository."""
    return path == "model.safetensors.index.json" or (
        path.startswith("model") and path.endswith(".safetensors") and "/" not in path
    )


def soup_folder(world: World, recipe_digest: str) -> Path:
    return world.data / "soups" / recipe_digest


def draft_folder(world: World, kind: str, digest: str, version: int) -> Path:
    return world.data / "drafts" / f"{kind}-{digest[:32]}-v{version}"


def link_all(files: Iterable[Path], folder: Path) -> None:
    """Hard links where the file system has them, copies where not."""
    for file in files:
        target = folder / file.name
        target.unlink(missing_ok=True)
        try:
            os.link(file, target)
        except OSError:
            shutil.copyfile(file, target)


def _fact(file: FileRow) -> FileFact:
    return FileFact(file.path, file.size, file.sha256, file.blob)


def _name(repo: str, sha: str) -> str:
    return f"{repo.replace('/', '--')}@{sha}"
