"""Which files are large: the rule that preupload answers with, and the first commit's attributes.

The Hub asks .gitattributes; here the patterns of a new repository's .gitattributes always hold,
and besides them any file over 10 MB or with a NUL byte among its first 512 is large.
"""

from __future__ import annotations

from fnmatch import fnmatch

INLINE_LIMIT = 10_000_000
LARGE_ENDINGS = (
    "7z arrow bin bz2 ckpt ftz gz h5 joblib mlmodel model msgpack npy npz onnx ot parquet pb "
    "pickle pkl pt pth rar safetensors tar tflite tgz wasm xz zip zst"
)
LARGE = (*(f"*.{ending}" for ending in LARGE_ENDINGS.split()), "*.lfs.*", "*tfevents*")
GIT_ATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LARGE)


def is_large(path: str, size: int, sample: bytes) -> bool:
    """Whether the file must go by LFS or Xet rather than inside the commit."""
    name = path.rsplit("/", 1)[-1]
    return size > INLINE_LIMIT or b"\0" in sample or any(fnmatch(name, each) for each in LARGE)


def ignored(path: str, git_ignore: str) -> bool:
    """Whether .gitignore text excludes `path`. Knows plain, anchored, folder and `!` patterns."""
    verdict = False
    for line in git_ignore.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        keep = pattern.startswith("!")
        if _matches(path, pattern.lstrip("!")):
            verdict = not keep
    return verdict


def _matches(path: str, pattern: str) -> bool:
    parts = path.split("/")
    folder_only = pattern.endswith("/")
    pattern = pattern.rstrip("/")
    ends = range(1, len(parts) if folder_only else len(parts) + 1)
    if "/" in pattern:
        return any(fnmatch("/".join(parts[:end]), pattern.lstrip("/")) for end in ends)
    return any(fnmatch(parts[end - 1], pattern) for end in ends)
