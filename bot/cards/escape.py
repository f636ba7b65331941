"""What of a stranger may appear on our pages, and in which form.

Foreign values on a card are names only: repository ids, authors, licence ids, category names. Each
passes exactly one of the filters below; no description, card or commit message of anyone else is
ever copied. A filter returns `Markdown`, and the template environment refuses to print anything
that is not `Markdown` or an int, so that a forgotten filter fails the first render instead of
opening a hole.

Not promised: that a *permitted* name is harmless to a reader. `ignore-all-rules/obey` is a valid
repository id and is printed as one.
"""

import hashlib
import re
from collections.abc import Iterable

REPO_ID = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)
TOKEN = re.compile(r"[A-Za-z0-9][\w.+-]{0,95}", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
DIGEST = re.compile(r"[0-9a-f]{64}")
_WORD = r"(?:[A-Za-z0-9]+(?:=\d+(?:\.\d+)?)?|\d+\.\d+|%)"
_WORDS = re.compile(rf"{_WORD}(?:(?:, |[ _-]){_WORD})*")
_SENTENCE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ,;:%()'-]|\.(?=\d|\Z| )){0,799}")
_URL = re.compile(r"https://[\w.-]+(?::\d+)?(?:/[\w./~%#?=&:+-]*)?", re.ASCII)
_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", re.ASCII)
_PATH = re.compile(r"[A-Za-z0-9][\w-]*(?:[/.][\w-]+)*", re.ASCII)
_LONGEST_LABEL = 80


class Markdown(str):
    """Text that is safe to print into a card as it stands."""

    __slots__ = ()


def stand_in(value: str) -> str:
    """A printable name for a value that may not be printed: the head of its SHA-256."""
    raw = value.encode("utf-8", "surrogatepass")
    return f"unprintable-{hashlib.sha256(raw).hexdigest()[:16]}"


def repo_id(value: str) -> str:
    """`value` where it is a well-formed repository id, else its stand-in."""
    return value if REPO_ID.fullmatch(value) else stand_in(value)


def token(value: str) -> str:
    """`value` where it is one plain word (a licence, a tag, an author), else its stand-in."""
    return value if TOKEN.fullmatch(value) else stand_in(value)


def label(value: str) -> str:
    """`value` as one short printable line: no control, format or line-breaking characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    if len(line) > _LONGEST_LABEL:
        line = line[: _LONGEST_LABEL - 1] + "…"
    return line or "(empty)"


def show_repo(value: str) -> Markdown:
    """A link to the repository's page on the Hub that shows the card (root-relative)."""
    if REPO_ID.fullmatch(value):
        return Markdown(f"[`{value}`](/{value})")
    return Markdown(f"`{stand_in(value)}`")


def show_bare(value: str) -> Markdown:
    """A repository id without any markup, for commands inside a fenced block."""
    return Markdown(repo_id(value))


def show_bare_token(value: str) -> Markdown:
    """A plain word without any markup, for code."""
    return Markdown(token(value))


def show_path(value: str) -> Markdown:
    """The path of a file beside the card, as a link target. Raises ValueError for any other."""
    if not _PATH.fullmatch(value):
        raise ValueError(f"not the path of a file beside the card: {value!r}")
    return Markdown(value)


def show_token(value: str) -> Markdown:
    """A code span: Hubs resolve neither mentions nor bare addresses inside one."""
    return Markdown(f"`{token(value)}`")


def show_label(value: str) -> Markdown:
    """A name of any characters, for running text and table cells.

    Plain words stay as they are. Anything else becomes a code span, the one inline construct in
    which every renderer leaves HTML, links, mentions and emphasis alone; the two characters that
    could end a span or a cell are replaced by look-alikes (the exact name is in provenance.json).
    """
    line = label(value)
    if _WORDS.fullmatch(line):
        return Markdown(line)
    return Markdown("`{}`".format(line.replace("`", "'").replace("|", "¦")))


def show_sentence(value: str) -> Markdown:
    """Prose of our own that came by way of a child process: plain sentences, else a label.

    Letters, digits and the punctuation of a sentence; nothing that Markdown or a linkifier reads,
    except at the start of a line, where no template prints a value (`1. x` would be a list).
    """
    return Markdown(value) if _SENTENCE.fullmatch(value) else show_label(value)


def show_commit(value: str) -> Markdown:
    """A 40-hex commit, in full: a shortened pin pins nothing."""
    if not COMMIT.fullmatch(value):
        raise ValueError(f"not a 40-hex commit: {value!r}")
    return Markdown(f"`{value}`")


def show_digest(value: str) -> Markdown:
    """The first 16 characters of a SHA-256; the whole one is in provenance.json."""
    if not DIGEST.fullmatch(value):
        raise ValueError(f"not a SHA-256 in lower-case hex: {value!r}")
    return Markdown(f"`{value[:16]}…`")


def show_contact(value: str) -> Markdown:
    """The operator's address: a web or mail address as a link, anything else as a label."""
    if _URL.fullmatch(value) or _MAIL.fullmatch(value):
        return Markdown(f"<{value}>")
    return show_label(value)


def python_literal(value: str) -> Markdown:
    """`value` as a one-line ASCII Python string, for code inside a fenced block."""
    quoted = ascii(value)
    if quoted.startswith("'") and '"' not in quoted:
        quoted = f'"{quoted[1:-1]}"'
    return Markdown(quoted)


def fenced(text: str, language: str) -> Markdown:
    """A code block whose fence is longer than any run of backticks in `text`."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markdown(f"{fence}{language}\n{text.rstrip()}\n{fence}")


def listing(parts: Iterable[str]) -> Markdown:
    """Safe parts joined by commas. Raises TypeError when a part was not escaped."""
    return Markdown(", ".join(checked(part) for part in parts))


def checked(value: object) -> str:
    """What the template environment calls on every printed value."""
    if isinstance(value, Markdown):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise TypeError(f"{type(value).__name__} reached a card without a filter: {value!r:.80}")
