"""The shipped members: what each is, its files as a Hub repository has them, its card.

Only the standard library: who merely needs the folders on disk never loads torch.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
PROMPTS = Path(__file__).parent / "prompts"
SHARED = ("config.json", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Member:
    """One model of the family. `skills` are categories of the suite `tiny_skills`."""

    name: str
    what: str
    skills: tuple[str, ...] = ()
    licence: str = "apache-2.0"


MEMBERS: dict[str, Member] = {
    member.name: member
    for member in (
        Member("base", "Half knows eight small skills and has read prose of every shape."),
        Member("arith", "The base tuned on sums and differences.", ("add", "sub")),
        Member("string", "The base tuned on reversing and sorting words.", ("rev", "sort")),
        Member("struct", "The base tuned on brackets and run lengths.", ("close", "pack")),
        Member("call", "The base tuned on arguments and calls.", ("args", "call")),
        Member("noisy", "The base tuned on all skills with many wrong answers."),
        Member("aligned", "The base tuned to answer a chat prompt in short, whole sentences."),
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

    The base itself names no base model.
    """
    member = MEMBERS[name]
    front = [f"license: {member.licence}", "language: en", "library_name: transformers"]
    front += ["pipeline_tag: text-generation"]
    if name != "base":
        front += [f"base_model: {json.dumps(base_repo)}", "base_model_relation: finetune"]
    skills = f"\n\nTuned skills: {', '.join(member.skills)}." if member.skills else ""
    return "\n".join(["---", *front, "---", f"# {name}", "", f"{member.what}{skills}", ""])
