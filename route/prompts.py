"""What the base reads in place of the aligned model's prompt.

The two models share the generated text, not the prompt. A base model continues text, so the format
is a first-order effect; it is part of what a router is calibrated with. The paper's exact base
format is not known to us; these are ours, `urial` after the idea of a few-shot header (Lin et al.,
"The Unlocking Spell on Base LLMs", arXiv 2312.01552) in our own words.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .config import PromptFormat


class PromptFormatError(ValueError):
    """The base needs its own prompt and got none, or one for another number of rows."""


_HEADER = """\
Below are queries and the helpful, clear and polite answers that were given to them.

# Query:
Why is the sky blue?

# Answer:
Sunlight holds all colours. Air scatters the blue part most, so blue reaches us from everywhere.

# Query:
Suggest a name for a small bakery by the sea.

# Answer:
How about "Salt & Rye"? It is short, and it brings both the sea and fresh bread to mind.

# Query:
{prompt}

# Answer:
"""


def aligned_ids(tokenizer: Any, prompt: str) -> list[int]:
    """The aligned model's prompt: its chat template, or the text as it is where there is none."""
    if not tokenizer.chat_template:
        return list(tokenizer(prompt)["input_ids"])
    turns = [{"role": "user", "content": prompt}]
    encoded = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)
    return list(encoded["input_ids"])


def base_ids(tokenizer: Any, prompt: str, prompt_format: PromptFormat) -> list[int]:
    """The base's prompt for the user's text `prompt`."""
    match prompt_format:
        case PromptFormat.SAME | PromptFormat.CHAT:
            return aligned_ids(tokenizer, prompt)
        case PromptFormat.PLAIN:
            text = f"{prompt}\n\n"
        case PromptFormat.QA:
            text = f"Question: {prompt}\nAnswer:"
        case PromptFormat.URIAL:
            text = _HEADER.format(prompt=prompt)
    return list(tokenizer(text)["input_ids"])


def pad_left(rows: Sequence[Sequence[int]], pad_id: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of ids as ids [B, L] and mask [B, L]."""
    if not rows or not all(rows):
        raise PromptFormatError("every row of a batch of prompts needs at least one token")
    longest = max(len(row) for row in rows)
    ids = [[pad_id] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


def base_prompt(
    prompt_format: PromptFormat,
    tokenizer: Any,
    ids: Tensor,
    base_inputs: Any,
    prompts: str | Sequence[str] | None,
) -> tuple[Tensor | None, Tensor | None]:
    """Ids and mask [B, L] for the base; (None, None) where it reads the aligned model's `ids`.

    `base_inputs`: ids as a tensor, as lists, or with their mask as a tokenizer returns them.
    `prompts`: the users' raw texts, formatted here. Under `same` they are the aligned ids already,
    so only their number is read. Raises PromptFormatError where neither is given and the router was
    calibrated with another format than `same`.
    """
    if base_inputs is not None and prompts is not None:
        raise PromptFormatError("give base_inputs= or prompts=, not both")
    if base_inputs is not None:
        return _as_batch(base_inputs, tokenizer, ids.device)
    if prompts is not None:
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        if len(texts) != ids.shape[0]:
            raise PromptFormatError(f"{len(texts)} prompts for {ids.shape[0]} rows of input")
        if prompt_format is not PromptFormat.SAME:
            own, mask = pad_left([base_ids(tokenizer, text, prompt_format) for text in texts])
            return own.to(ids.device), mask.to(ids.device)
    elif prompt_format is not PromptFormat.SAME:
        raise PromptFormatError(
            f"this router was calibrated with the base reading the prompt format "
            f'"{prompt_format}", not the ids of the aligned model. Add prompts=[...], the raw user '
            f"text of each row, which is then formatted so; or add base_inputs=, the base's own ids"
        )
    return None, None


def _as_batch(given: Any, tokenizer: Any, device: torch.device) -> tuple[Tensor, Tensor | None]:
    if isinstance(given, Mapping):
        ids, mask = torch.as_tensor(given["input_ids"]), given.get("attention_mask")
        mask = None if mask is None else torch.as_tensor(mask).to(device)
        return ids.to(device), mask
    if isinstance(given, Tensor):
        return given.to(device), padding_mask(given.to(device), tokenizer)
    ids, mask = pad_left(given)
    return ids.to(device), mask.to(device)


def padding_mask(ids: Tensor, tokenizer: Any) -> Tensor | None:
    """The mask of left-padded ids without one: transformers' rule for bare ids.

    The pad token counts as padding unless it is the end token too.
    """
    pad = tokenizer.pad_token_id
    if pad is None or pad == tokenizer.eos_token_id or not bool((ids == pad).any()):
        return None
    return ids.ne(pad).long()
