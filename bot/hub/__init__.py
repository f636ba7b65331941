"""The only door to the Hub: every use of `huggingface_hub` by the daemon is in this folder.

wire      time limits, waiting, fences, one vocabulary of errors, below the client
session   one account on one Hub
facts     what the Hub says, as plain values
reader    listings, pages, small files, headers
download  whole files, every byte checked
writer    `Hub`: the reader that also writes, one guarded commit at a time

Not promised: that anything the Hub says about a stranger's repository is true.
"""

from bot.hub.facts import FileFact, RepoFacts, Sighting
from bot.hub.reader import Reader
from bot.hub.writer import Hub, Identity

__all__ = ["FileFact", "Hub", "Identity", "Reader", "RepoFacts", "Sighting"]
