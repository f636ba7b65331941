"""The closed list of reason codes, in the order in which they are reported.

Where several reasons apply to one repository, the first in this file is the one that is stored
and shown. A code is a stable string: it is written into databases, so it may be added to this
list but never renamed. The codes of `merge.errors.Code` all appear here under the same strings.
"""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a repository, a recipe or an answer was refused. Definition order is report order."""

    # the listing
    BAD_LISTING = "bad-listing"
    AUTHOR_DENIED = "author-denied"
    # access
    GATED = "gated"
    PRIVATE = "private"
    WITHDRAWN = "withdrawn"
    # licence
    NO_LICENCE = "no-licence"
    LICENCE_DENIED = "licence-denied"
    LICENCE_CONFLICT = "licence-conflict"
    # size
    TOO_LARGE = "too-large"
    # files
    NO_SAFETENSORS = "no-safetensors"
    UNSAFE_FILE = "unsafe-file"
    BAD_INDEX = "bad-index"
    MISSING_SHARD = "missing-shard"
    # headers
    HEADER_TOO_LARGE = "header-too-large"
    TOO_MANY_TENSORS = "too-many-tensors"
    BAD_SAFETENSORS = "bad-safetensors"
    # names and shapes
    OTHER_ARCHITECTURE = "other-architecture"
    QUANTISED = "quantised"
    UNSUPPORTED_ADAPTER = "unsupported-adapter"
    WRONG_TENSORS = "wrong-tensors"
    WRONG_SHAPES = "wrong-shapes"
    WRONG_DTYPES = "wrong-dtypes"
    # configuration
    NEEDS_CODE = "needs-code"
    CONFIG_MISMATCH = "config-mismatch"
    # tokenizer
    VOCAB_MISMATCH = "vocab-mismatch"
    # what only the content shows
    DUPLICATE = "duplicate"
    CORRUPT_UPSTREAM = "corrupt-upstream"
    WRONG_BUFFERS = "wrong-buffers"
    UNTIED_HEAD = "untied-head"
    NON_FINITE = "non-finite"
    ABNORMAL_NORM = "abnormal-norm"
    NOT_A_FINETUNE = "not-a-finetune"
    NEAR_DUPLICATE = "near-duplicate"
    # not about a candidate: a recipe, this machine, or what the Hub says to our own writes
    WEIGHTS = "weights"
    BAD_RECIPE = "bad-recipe"
    DUPLICATE_MEMBER = "duplicate-member"
    OUTPUT_EXISTS = "output-exists"
    BUSY = "busy"
    DISK_FULL = "disk-full"
    CHANGED = "changed"
    VERIFY_FAILED = "verify-failed"
    HUB_REFUSED = "hub-refused"
    NOT_OURS = "not-ours"


@dataclass(frozen=True)
class Explanation:
    """One code in words. `remedy` says what its owner or the operator could change."""

    meaning: str
    remedy: str


_EXPLANATIONS: dict[Reason, Explanation] = {
    Reason.BAD_LISTING: Explanation(
        "the file list or the card of the repository cannot be used",
        "use plain relative file names that differ by more than case, and a valid card",
    ),
    Reason.AUTHOR_DENIED: Explanation(
        "the settings exclude this author",
        "change the allow or deny list of authors in bot.toml",
    ),
    Reason.GATED: Explanation(
        "access must be asked for, and the bot asks for none",
        "the owner can remove the gate; a new commit is looked at again",
    ),
    Reason.PRIVATE: Explanation(
        "the repository is private",
        "publish it, or set private and allow_private to use it for private soups only",
    ),
    Reason.WITHDRAWN: Explanation(
        "the repository or the pinned commit is no longer there",
        "nothing to do; a new commit is a new candidate",
    ),
    Reason.NO_LICENCE: Explanation(
        "the card names no licence that we know",
        "add `license:` to the card, or set private and allow_private for private soups only",
    ),
    Reason.LICENCE_DENIED: Explanation(
        "the licence does not allow publishing a soup, or the settings exclude it",
        "set private and allow_private to use it for private soups only",
    ),
    Reason.LICENCE_CONFLICT: Explanation(
        "the licence cannot be combined with the licence of the base",
        "set private and allow_private to use it for private soups only",
    ),
    Reason.TOO_LARGE: Explanation(
        "the weights are larger than the settings or the base model allow",
        "raise max_gb in bot.toml if the weights are genuine",
    ),
    Reason.NO_SAFETENSORS: Explanation(
        "there is no model.safetensors; other formats are never opened",
        "convert the weights to safetensors",
    ),
    Reason.UNSAFE_FILE: Explanation(
        "a file is a link, a device, or differs from another only by case",
        "upload plain files with distinct names",
    ),
    Reason.BAD_INDEX: Explanation(
        "the index of the weights is malformed or names files it must not name",
        "save the model again with save_pretrained",
    ),
    Reason.MISSING_SHARD: Explanation(
        "the index names a file that the repository does not have",
        "upload the missing file",
    ),
    Reason.HEADER_TOO_LARGE: Explanation(
        "the safetensors header is larger than any honest model needs",
        "save the model again with save_pretrained",
    ),
    Reason.TOO_MANY_TENSORS: Explanation(
        "there are far more tensors than in the base",
        "save the model again with save_pretrained",
    ),
    Reason.BAD_SAFETENSORS: Explanation(
        "the file does not follow the safetensors format",
        "save the model again with save_pretrained",
    ),
    Reason.OTHER_ARCHITECTURE: Explanation(
        "the model has another architecture than the base",
        "none: only fine-tunes of the same architecture can be averaged",
    ),
    Reason.QUANTISED: Explanation(
        "the weights are quantised; averaging their codes would be meaningless",
        "publish the unquantised weights",
    ),
    Reason.UNSUPPORTED_ADAPTER: Explanation(
        "an adapter in place of a model, or of a kind that cannot be merged into the base",
        "publish the merged model",
    ),
    Reason.WRONG_TENSORS: Explanation(
        "the tensor names differ from those of the base",
        "save the full model without wrappers or adapters",
    ),
    Reason.WRONG_SHAPES: Explanation(
        "tensors have other shapes than in the base",
        "none: only fine-tunes of the same size can be averaged",
    ),
    Reason.WRONG_DTYPES: Explanation(
        "buffers have another type than in the base",
        "save the model again with save_pretrained",
    ),
    Reason.NEEDS_CODE: Explanation(
        "the model brings code of its own, which is never run",
        "remove the code and auto_map if the architecture is a standard one",
    ),
    Reason.CONFIG_MISMATCH: Explanation(
        "the configuration computes something else than that of the base",
        "none: the forward pass must be the same",
    ),
    Reason.VOCAB_MISMATCH: Explanation(
        "the tokenizer has another vocabulary than that of the base",
        "none: token ids must mean the same",
    ),
    Reason.DUPLICATE: Explanation(
        "the same weights are known under another name",
        "none: the older one is used",
    ),
    Reason.CORRUPT_UPSTREAM: Explanation(
        "the Hub repeatedly sent bytes that do not match their own hash",
        "upload the file again",
    ),
    Reason.WRONG_BUFFERS: Explanation(
        "buffers that must be copied hold other values than in the base",
        "none: such tensors cannot be averaged",
    ),
    Reason.UNTIED_HEAD: Explanation(
        "the output head and the embedding differ where the base ties them",
        "none: only models that tie them can be averaged with this base",
    ),
    Reason.NON_FINITE: Explanation(
        "tensors hold NaN or infinite values",
        "train and save the model again",
    ),
    Reason.ABNORMAL_NORM: Explanation(
        "the size of some tensors is far from that in the base",
        "none: such weights would dominate or vanish in an average",
    ),
    Reason.NOT_A_FINETUNE: Explanation(
        "the weights have nothing in common with the base",
        "correct base_model in the card",
    ),
    Reason.NEAR_DUPLICATE: Explanation(
        "the weights are almost those of another candidate",
        "none: one of each kind is used",
    ),
    Reason.WEIGHTS: Explanation(
        "the weights of the recipe do not sum to one, or are not fractions",
        "correct the recipe",
    ),
    Reason.BAD_RECIPE: Explanation(
        "the recipe cannot be read",
        "use a recipe as written into provenance.json",
    ),
    Reason.DUPLICATE_MEMBER: Explanation(
        "the recipe names the same model twice",
        "add the two weights up",
    ),
    Reason.OUTPUT_EXISTS: Explanation(
        "the place to write to is taken",
        "remove it, or name another place",
    ),
    Reason.BUSY: Explanation(
        "somebody else is writing to the same place",
        "wait for the other process",
    ),
    Reason.DISK_FULL: Explanation(
        "there is not enough space on the disk",
        "free some space, or move the data folder",
    ),
    Reason.CHANGED: Explanation(
        "a file changed while it was read",
        "try again on files that nobody writes to",
    ),
    Reason.VERIFY_FAILED: Explanation(
        "what was written does not read back as it should",
        "check the disk, then try again",
    ),
    Reason.NOT_OURS: Explanation(
        "the target repository holds what this bot did not write",
        "name another target, or restore the file that was changed; then `bot retry`",
    ),
    Reason.HUB_REFUSED: Explanation(
        "the Hub refused the request",
        "read the message of the Hub; quota and size limits are the usual causes",
    ),
}

_RANK = {reason: rank for rank, reason in enumerate(Reason)}


def explain(reason: Reason) -> Explanation:
    """The code in words."""
    return _EXPLANATIONS[reason]


def rank(reason: Reason) -> int:
    """Place of the reason in the report order; smaller is reported first."""
    return _RANK[reason]
