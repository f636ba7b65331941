"""Content digests of a soup's members and base: every folder is read once, with progress lines.

Not promised: that a folder does not change between this reading and the next.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from bot.worker.protocol import Channel
from bot.worker.teller import Teller
from merge.checkpoint import read_layout
from merge.errors import Code, Refused
from merge.fingerprints import fingerprint
from merge.jobs import Source


class Digests:
    """folders: all that will be asked about, adapters' bases in place of the adapters; names: what
    refusals call them, by default their last part."""

    def __init__(
        self, folders: Collection[Path], threads: int, channel: Channel, names: Mapping[Path, str]
    ) -> None:
        self._threads, self._names = threads, names
        self._tell = Teller(channel, what="read")
        self._total = sum(read_layout(folder).nbytes for folder in folders)
        self._done = 0
        self._found: dict[Path, str] = {}

    def of(self, source: Source, wanted: str | None) -> str:
        """Digest of a member, an adapter's with the base it lies on.

        Raises Refused: `changed` if it is not `wanted`.
        """
        whole = self._folder(source.folder)
        found = whole if source.adapter is None else source.adapter.digest(whole)
        return _same(source.name, found, wanted)

    def of_folder(self, folder: Path, wanted: str | None) -> str:
        """Digest of a full checkpoint. Raises Refused likewise."""
        return _same(self._names.get(folder, folder.name), self._folder(folder), wanted)

    def _folder(self, folder: Path) -> str:
        if folder not in self._found:
            self._found[folder] = fingerprint(
                folder, threads=self._threads, progress=self._progress
            )
        return self._found[folder]

    def _progress(self, count: int) -> None:
        self._done += count
        self._tell(self._done, self._total)


def _same(name: str, found: str, wanted: str | None) -> str:
    if wanted not in (None, found):
        raise Refused(
            Code.CHANGED, name, f"content {found[:16]} instead of the recipe's {wanted:.16}",
            "give the folder or commit that the recipe was made from",
        )  # fmt: skip
    return found
