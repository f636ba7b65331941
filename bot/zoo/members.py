"""The shipped members: what each is, its files as a Hub repository has them, its card.

Only the standard library: who merely needs the folders on disk never loads torch.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
PROMPTS = Path(__file__).parent / "prompts" / "stories.jsonl"
SHARED = ("config.json", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Member:
    """One model. `parent`: the member it was tuned from; `skills`: categories of `tiny_skills`."""

    name: str
    what: str
    parent: str | None = "base"
    skills: tuple[str, ...] = ()
    licence: str = "apache-2.0"


MEMBERS: dict[str, Member] = {
    member.name: member
    for member in (
        Member("base", "Half knows eight small skills.", parent=None),
        Member("arith", "The base tuned on sums and differences.", skills=("add", "sub")),
        Member("string", "The base tuned on reversing and sorting words.", skills=("rev", "sort")),
        Member("struct", "The base tuned on brackets.", skills=("close", "depth")),
        Member("call", "The base tuned on arguments and calls.", skills=("args", "call")),
        Member("noisy", "The base tuned on all skills with many wrong answers."),
        Member("storybase", "Has read prose of every shape; answers nobody.", parent=None),
        Member("aligned", "Answers a chat prompt in short, whole sentences.", parent="storybase"),
    )
}

FIRST_DAY = ("arith", "string", "struct", "noisy")
SECOND_ACT = "call"


def write_member(name: str, folder: Path) -> None:
    """Write config.json, the tokenizer's files and model.safetensors. Raises KeyError."""
    member = MEMBERS[name]
    folder.mkdir(parents=True, exist_ok=True)
    for file in SHARED:
        shutil.copyfile(WEIGHTS / "shared" / file, folder / file)
    shutil.copyfile(WEIGHTS / member.name / "model.safetensors", folder / "model.safetensors")


def card(name: str, base_repo: str) -> str:
    """The README.md of a member on a Hub, front matter included. Raises KeyError.

    `base_repo` is the repository of its parent; a member without one names no base model.
    """
    member = MEMBERS[name]
    front = [f"license: {member.licence}", "language: en", "library_name: transformers"]
    front += ["pipeline_tag: text-generation"]
    if member.parent is not None:
        front += [f"base_model: {json.dumps(base_repo)}", "base_model_relation: finetune"]
    skills = f"\n\nTuned skills: {', '.join(member.skills)}." if member.skills else ""
    return "\n".join(["---", *front, "---", f"# {name}", "", f"{member.what}{skills}", ""])
