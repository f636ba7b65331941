"""What others put on the demo Hub: a tiny base, its fine-tunes, and ten bad repositories."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

from bot.demo.refused import REFUSED, Files
from bot.localhub import LocalHub
from bot.zoo.members import MEMBERS, card, write_member

ORG = "tiny"
BASE = f"{ORG}/base"
COPIED = "string"  # whose weights the copycat uploads again


@dataclass(frozen=True)
class Strangers:
    """Uploads under the organisation `tiny`, through the ordinary client."""

    hub: LocalHub
    api: HfApi

    @classmethod
    def on(cls, hub: LocalHub) -> Strangers:
        disable_progress_bars()
        return cls(hub, HfApi(endpoint=hub.url, token=hub.token("someone")))

    def push(self, member: str) -> str:
        """Upload a member of the family in one commit; its sha."""
        return self._commit(f"{ORG}/{member}", _files(member))

    def push_refused(self) -> None:
        for name, (code, change) in REFUSED.items():
            files = change(_files(COPIED if code == "duplicate" else "noisy"))
            self._commit(f"{ORG}/{name}", files)
            if code == "gated":
                self.hub.set_gated(f"{ORG}/{name}")

    def _commit(self, repo: str, files: Files) -> str:
        self.api.create_repo(repo)
        done = self.api.create_commit(
            repo,
            [CommitOperationAdd(path, content) for path, content in files.items()],
            commit_message="Upload the model",
        )
        return str(done.oid)


def _files(member: str) -> Files:
    with tempfile.TemporaryDirectory() as folder:
        write_member(member, Path(folder))
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return files | {"README.md": card(member, f"{ORG}/{MEMBERS[member].parent}").encode()}
