"""Whether the last line of `bot demo --json` tells of a demo that did everything it promises."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from bot.demo.refused import REFUSED
from bot.demo.strangers import ORG

AIM = 180.0  # seconds, on two cores; told, since how fast a machine is today is no fault of ours
SHA = re.compile("[0-9a-f]{40}")


def main(file: Path) -> None:
    result = json.loads(file.read_text().splitlines()[-1])
    soup, router = result["soup"], result["router"]
    expected = {f"{ORG}/{name}": code for name, (code, _) in REFUSED.items()}
    refused = {repo: code for repo, code in result["refused"].items() if repo in expected}
    seconds = sum(result["seconds"].values())
    wrong = [
        what
        for what, holds in {
            f"soup versions {soup['versions']}": _two_versions(soup["versions"]),
            f"router versions {router['versions']}": _pinned(router["versions"], "v1"),
            f"gate {soup['gate']}": all(c["low"] > 0 for c in soup["gate"]["comparisons"][:1]),
            "no report-split scores": bool(soup["scores"]),
            f"refused {refused}": refused == expected,
            "bot verify did not find the soup the same": result["verified"] is True,
            f"no database at {result['database']}": _file(result["database"]).is_file(),
        }.items()
        if not holds
    ]
    slow = f", more than the {AIM:.0f} that we aim at" if seconds > AIM else ""
    print(json.dumps(result["seconds"]), f"{seconds:.0f} s in all{slow}")
    if wrong:
        sys.exit("the demo went wrong:\n  " + "\n  ".join(wrong))


def _two_versions(versions: dict[str, str]) -> bool:
    return _pinned(versions, "v1") and _pinned(versions, "v2") and len(set(versions.values())) > 1


def _pinned(versions: dict[str, str], tag: str) -> bool:
    return SHA.fullmatch(versions.get(tag, "")) is not None


def _file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
