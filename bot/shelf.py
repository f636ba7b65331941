"""Where files lie on this machine. Every folder is named by content and can be made again.

    data/models/ORG--NAME@SHA/   a candidate's weights, hash-checked, and nothing else of it
    data/trusted/ORG--NAME@SHA/  config, tokenizer and texts of the base or of the operator's donor
    data/soups/DIGEST/           a soup's weights, by recipe
    data/rounds/                 what calibrations of routers have measured (`bot.rounds`)
    data/drafts/KIND-DIGEST-VN/  a publication as it will be sent

From a stranger only tensors are taken: `models` never holds a config or a tokenizer.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from bot.errors import Gone, Rejected
from bot.hub import FileFact, Hub
from bot.reasons import Reason
from bot.sections import BaseSection
from db.rows import CandidateRow, FileRow

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


@dataclass(frozen=True)
class Shelf:
    """The data folder, filled from the Hub on demand."""

    hub: Hub
    data: Path

    def weights(self, candidate: CandidateRow) -> tuple[Path, int]:
        """The candidate's tensors, and how many bytes were downloaded for them now."""
        folder = self._models(candidate.repo, candidate.sha)
        fresh = not _is_filled(folder)
        files = [_fact(file) for file in candidate.files]
        self.hub.fetch(candidate.repo, candidate.sha, files, folder)
        return folder, sum(file.size for file in candidate.files) if fresh else 0

    def model(self, repo: str, sha: str) -> Path:
        """The tensors of any pinned model: a router's side, a published soup's member.

        Raises Rejected `no-safetensors` where it has none.
        """
        folder = self._models(repo, sha)
        if not _is_filled(folder):
            facts = self.hub.info(repo, sha)
            files = [file for file in facts.files if is_weights(file.path)]
            if not files:
                raise Rejected(Reason.NO_SAFETENSORS, f"{repo}@{sha}")
            self.hub.fetch(repo, sha, files, folder)
        return folder

    def published(self, repo: str, sha: str, names: Collection[str], folder: Path) -> None:
        """Fill `folder` with these files of a commit. Raises Gone where it lacks one of them."""
        facts = self.hub.info(repo, sha)
        files = [file for file in facts.files if file.path in names]
        if missing := sorted(set(names) - {file.path for file in files}):
            raise Gone(f"{repo}@{sha}: {missing[0]}")
        self.hub.fetch(repo, sha, files, folder)

    def texts(self, repo: str, sha: str) -> Path:
        """The allow-listed small files of a repository that the operator pinned."""
        folder = self.data / "trusted" / _name(repo, sha)
        if not _is_filled(folder):
            facts = self.hub.info(repo, sha)
            files = [file for file in facts.files if file.path in (*TRUSTED, *TEXTS)]
            self.hub.fetch(repo, sha, files, folder)
        return folder

    def trusted(self, section: BaseSection) -> Path:
        """Config and tokenizer of the base, or of the donor that the operator named."""
        return self.texts(*donor_of(section))

    def soup(self, recipe_digest: str) -> Path:
        """Where it lies once it is written; `bot.build.written` sees to what is in it."""
        return self.data / "soups" / recipe_digest

    def rounds(self) -> Path:
        return self.data / "rounds"

    def draft(self, kind: str, digest: str, version: int) -> Path:
        return self.data / "drafts" / f"{kind}-{digest[:32]}-v{version}"

    def _models(self, repo: str, sha: str) -> Path:
        return self.data / "models" / _name(repo, sha)


def donor_of(section: BaseSection) -> tuple[str, str]:
    """Repo and sha that config, tokenizer and chat template come from."""
    repo, _, sha = (section.donor or f"{section.repo}@{section.sha}").partition("@")
    return repo, sha


def is_weights(path: str) -> bool:
    """The model's own tensors or their index, at the top of the repository."""
    return path == "model.safetensors.index.json" or (
        path.startswith("model") and path.endswith(".safetensors") and "/" not in path
    )


def link_all(files: Iterable[Path], folder: Path) -> None:
    """Hard links where the file system has them, copies where not."""
    for file in files:
        target = folder / file.name
        target.unlink(missing_ok=True)
        try:
            os.link(file, target)
        except OSError:
            shutil.copyfile(file, target)


def _is_filled(folder: Path) -> bool:
    """A folder appears with all its files at once; an empty one is nobody's download."""
    return folder.is_dir() and any(folder.iterdir())


def _fact(file: FileRow) -> FileFact:
    return FileFact(file.path, file.size, file.sha256, file.blob)


def _name(repo: str, sha: str) -> str:
    return f"{repo.replace('/', '--')}@{sha}"
