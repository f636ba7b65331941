"""What a person should know about a soup that is not refused: harmless or undecidable differences.

    for line in remarks(plan, donor=Path("base")):
        print(line)

Not promised: completeness, or that two members without a remark are alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from merge.checkpoint import MAX_CONFIG, parse_json, read_small
from merge.errors import Refused, brief, printable
from merge.jobs import Source
from merge.lora import CONFIG as ADAPTER_CONFIG
from merge.plan import SoupPlan

_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_EXPERTS = re.compile(r"(^|\.)experts?(\.[0-9]+)?\.")
_NAME_OF_BASE = "base_model_name_or_path"


def remarks(plan: SoupPlan, *, donor: Path) -> tuple[str, ...]:
    """Sentences about members of which something could not be compared, or whose special tokens,
    chat template or generation settings differ from `donor`'s (the folder that gives the soup its
    configuration), about experts, adapters."""
    members = plan.sources[: len(plan.weights)]
    return (
        *_unknown(members, plan.sources), *_token_ids(members, donor), *_texts(members, donor),
        *_experts(members), *_adapters(members, plan.sources),
    )  # fmt: skip


def _unknown(members: Sequence[Source], sources: Sequence[Source]) -> Iterator[str]:
    """Members of which there is nothing to compare with what others have."""
    settings = any(source.config for source in sources)
    first = next((s for s in sources if s.tokenizer or s.vocabularies), None)
    for member in members:
        if settings and not member.config:
            yield _line(f"{member.name}: has no config.json, so its settings are taken on trust")
        if first is not None and not _comparable(first, member):
            yield _line(f"{member.name}: has no tokenizer to compare, its ids are taken on trust")


def _comparable(one: Source, other: Source) -> bool:
    whole = bool(one.tokenizer and other.tokenizer)
    return whole or bool(one.vocabularies.keys() & other.vocabularies.keys())


def _token_ids(members: Sequence[Source], donor: Path) -> Iterator[str]:
    ours = _object(donor, "config.json")
    for member in members:
        for key in _TOKEN_IDS:
            kept = ours.get(key)
            theirs = member.config.get(key, kept)
            if theirs != kept:
                shown = f"{_short(theirs)}, the soup keeps {_short(kept)}"
                yield _line(f"{member.name}: {key} is {shown}")


def _texts(members: Sequence[Source], donor: Path) -> Iterator[str]:
    template, settings = _template(donor), _generation(donor)
    for member in members:
        if member.adapter is not None:
            continue
        if _template(member.folder) not in (None, template):
            yield _line(f"{member.name}: has another chat template, the soup keeps the donor's")
        if _generation(member.folder) not in ({}, settings):
            yield _line(f"{member.name}: has other generation settings, the soup keeps the donor's")


def _experts(members: Sequence[Source]) -> Iterator[str]:
    if len(members) > 1 and any(_EXPERTS.search(name) for name in members[0].layout.tensors):
        yield "experts are averaged by their index: right for fine-tunes of one base only"


def _adapters(members: Sequence[Source], sources: Sequence[Source]) -> Iterator[str]:
    bases = {source.folder: source.name for source in sources if source.adapter is None}
    for member in members:
        if member.adapter is None:
            continue
        base = bases.get(member.folder, member.folder.name)
        named = _object(member.adapter.folder, ADAPTER_CONFIG).get(_NAME_OF_BASE)
        if not isinstance(named, str) or Path(named).name != Path(base.partition("@")[0]).name:
            yield _line(
                f"{member.name}: an adapter, put on {base}; it names {brief(named)} as its base"
            )


def _template(folder: Path) -> object:
    """The chat template's text, None where there is none."""
    try:
        return read_small(folder / "chat_template.jinja", MAX_CONFIG).decode(errors="replace")
    except Refused:
        return _object(folder, "tokenizer_config.json").get("chat_template")


def _generation(folder: Path) -> Mapping[str, object]:
    found = _object(folder, "generation_config.json")
    return {key: value for key, value in found.items() if key != "transformers_version"}


def _object(folder: Path, name: str) -> Mapping[str, object]:
    """A JSON object; empty where it is absent or cannot be read: these are remarks, not checks."""
    try:
        return parse_json(read_small(folder / name, MAX_CONFIG), name)
    except Refused:
        return {}


def _short(ids: object) -> str:
    """Token ids: a number, or a list of numbers."""
    plain = isinstance(ids, list) and len(ids) < 20 and all(type(one) is int for one in ids)
    return str(ids) if plain else brief(ids)


def _line(text: str) -> str:
    return printable(text, longest=500)
