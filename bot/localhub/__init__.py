"""A Hub on this machine, for the unmodified huggingface_hub client.

    with LocalHub(directory, users={"alice": ["tiny"]}) as hub:
        api = HfApi(endpoint=hub.url, token=hub.token("alice"))

Not promised: more than one server process per directory, defence against those who may write
(large files are known by their hash alone, so naming a hash is enough to have it), collection of
blobs that nothing refers to any more.
"""

from bot.localhub.faults import Fault, Request
from bot.localhub.server import LocalHub, serve

__all__ = ["Fault", "LocalHub", "Request", "serve"]
