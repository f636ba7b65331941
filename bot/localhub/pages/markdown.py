"""Cards as HTML."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from itertools import pairwise
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
_ALIGNED = re.compile("text-align:(left|center|right)")


def render(text: str, repo_path: str, revision: str) -> str:
    """HTML of a card. Relative images and links are resolved inside the repository's version."""
    tokens = _MARKDOWN.parse(text)
    _anchor_headings(tokens)
    for token in tokens:
        if align := _ALIGNED.fullmatch(str(token.attrs.get("style", ""))):
            token.attrs = {"class": align[1]}  # the pages' policy forbids inline styles
        for child in token.children or ():
            if child.type == "image":
                _point(child, "src", f"/{repo_path}/resolve/{revision}")
            elif child.type == "link_open":
                _point(child, "href", f"/{repo_path}/blob/{revision}")
    return str(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))


def _point(token: Token, name: str, root: str) -> None:
    """Turns a relative address into one below `root`; leaves the others alone."""
    address = str(token.attrs.get(name, ""))
    try:
        parts = urlsplit(address)
    except ValueError:
        return
    if parts.scheme or parts.netloc or not parts.path or parts.path.startswith("/"):
        return
    path = posixpath.normpath(unquote(parts.path))
    if path != ".." and not path.startswith("../"):
        token.attrs[name] = f"{root}/{posixpath.normpath(parts.path)}"


def _anchor_headings(tokens: Sequence[Token]) -> None:
    """Gives headings the ids by which tables of contents refer to them."""
    for opening, content in pairwise(tokens):
        if opening.type == "heading_open":
            words = re.sub(r"[^\w\- ]", "", content.content.lower())
            opening.attrs["id"] = words.strip().replace(" ", "-")
