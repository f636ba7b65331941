"""Which prompt format gives the base its best: a study with the base alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from .bootstrap import Resampler
from .config import PromptFormat
from .figures import FormatTrial
from .measured import Measured, Plan
from .prompts import base_ids
from .rounds import Rounds
from .rules import Router
from .sampling import Way
from .yardstick import DIVERSITY, LENGTH, QUALITY

RULE = (
    "The base wrote alone under each format on the calibration prompts, and the format of the "
    "highest mean quality was taken."
)


def base_alone(prompt_format: PromptFormat | None = None) -> Plan:
    """The base without the aligned model, under a format of its own or the pair's."""
    name = "base alone" if prompt_format is None else f"base alone, format {prompt_format}"
    return Plan(name, "base", "base", Way(Router.RAND, "always"), prompt_format=prompt_format)


def different(
    tokenizer: Any, prompts: Sequence[str], formats: Sequence[PromptFormat]
) -> list[PromptFormat]:
    """`formats` without those under which the base reads what it reads under an earlier one.

    With a chat template `same` and `chat` are the same ids; so they are without one.
    """
    kept: dict[tuple[tuple[int, ...], ...], PromptFormat] = {}
    for one in formats:
        read = tuple(tuple(base_ids(tokenizer, prompt, one)) for prompt in prompts)
        kept.setdefault(read, one)
    return list(kept.values())


def study(
    rounds: Rounds, prompts: Sequence[str], formats: Sequence[PromptFormat]
) -> dict[PromptFormat, Measured]:
    """The base alone under each format."""
    return {one: rounds.run(prompts, base_alone(one)) for one in formats}


def choose(tried: Mapping[PromptFormat, Measured]) -> PromptFormat:
    """By `RULE`; of equal ones the first."""
    return max(tried, key=lambda form: float(tried[form].values[QUALITY].mean()))


def trials(tried: Mapping[PromptFormat, Measured], resampler: Resampler) -> tuple[FormatTrial, ...]:
    """As published."""
    return tuple(
        FormatTrial(
            prompt_format=form,
            quality=resampler.mean(one.values[QUALITY]),
            diversity=resampler.mean(one.values[DIVERSITY]),
            length=resampler.mean(one.values[LENGTH]),
        )
        for form, one in tried.items()
    )
