"""One exception for everything the engine declines to do: a code, a culprit, a reason, a remedy.

    Refused(ValueError)      the input (or the disk) cannot give a truthful soup
      .code                  a member of `Code`, a closed list of stable strings
      .subject               the tensor, configuration key, file or member at fault
      .detail                what is wrong with it
      .remedy                what a person can do about it

Not promised: that the order of `Code` is the order in which several faults are reported.
"""

from __future__ import annotations

from enum import StrEnum

LONGEST_SUBJECT = 200


class Code(StrEnum):
    """Why something was refused. Strings are stable: they are stored, counted and shown."""

    # the folder and its files
    NO_SAFETENSORS = "no-safetensors"
    UNSAFE_FILE = "unsafe-file"
    BAD_INDEX = "bad-index"
    MISSING_SHARD = "missing-shard"
    BAD_SAFETENSORS = "bad-safetensors"
    HEADER_TOO_LARGE = "header-too-large"
    TOO_MANY_TENSORS = "too-many-tensors"
    # against the base
    QUANTISED = "quantised"
    WRONG_TENSORS = "wrong-tensors"
    WRONG_SHAPES = "wrong-shapes"
    WRONG_DTYPES = "wrong-dtypes"
    OTHER_ARCHITECTURE = "other-architecture"
    NEEDS_CODE = "needs-code"
    CONFIG_MISMATCH = "config-mismatch"
    VOCAB_MISMATCH = "vocab-mismatch"
    UNSUPPORTED_ADAPTER = "unsupported-adapter"
    # the values
    WRONG_BUFFERS = "wrong-buffers"
    UNTIED_HEAD = "untied-head"
    NON_FINITE = "non-finite"
    ABNORMAL_NORM = "abnormal-norm"
    # the request and the machine
    WEIGHTS = "weights"
    BAD_RECIPE = "bad-recipe"
    DUPLICATE_MEMBER = "duplicate-member"
    OUTPUT_EXISTS = "output-exists"
    BUSY = "busy"
    DISK_FULL = "disk-full"
    CHANGED = "changed"
    VERIFY_FAILED = "verify-failed"


class Refused(ValueError):
    """A refusal that explains itself; `str()` is a full sentence in one line.

    `subject` and `detail` may quote names chosen by strangers: control characters are escaped
    and long names are cut, so that the sentence is safe to log.
    """

    def __init__(self, code: Code, subject: str, detail: str, remedy: str) -> None:
        self.code = code
        self.subject = printable(subject)
        self.detail = printable(detail, longest=4 * LONGEST_SUBJECT)
        self.remedy = remedy
        super().__init__(code, subject, detail, remedy)

    def about(self, member: str) -> Refused:
        """The same refusal with the member's name before the subject."""
        return Refused(self.code, f"{member}: {self.subject}", self.detail, self.remedy)

    def __str__(self) -> str:
        sentence = f"{self.code}: {self.subject}: {self.detail}"
        return f"{sentence}; {self.remedy}" if self.remedy else sentence


def changed(subject: str) -> Refused:
    """A file is not what it was when its header was read."""
    return Refused(Code.CHANGED, subject, "changed since the plan", "plan again")


def printable(text: str, longest: int = LONGEST_SUBJECT) -> str:
    """`text` in one line of printable characters, cut after `longest` of them."""
    clipped = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in clipped)


def brief(value: object) -> str:
    """A value from a stranger's JSON in a few words: containers by size, however deep they nest."""
    if isinstance(value, dict | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{value[:80]!r}" if isinstance(value, str) else f"{value!r:.80}"
