"""What a router would have seen along texts that are already written."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .measure import batch_rows
from .policy import Decision, History, decide
from .prompts import base_ids, pad_left
from .rules import Policy, Router
from .sampling import Pair, Written, thinned
from .side import fit_width
from .vocab import read_vocabulary


@dataclass(frozen=True)
class Signal:
    """At the K positions where the router is asked."""

    doubt: Tensor  # [K]
    content: Tensor  # [K] bool: its content rule holds


def while_writing(written: Written) -> Signal:
    """The signal noted while the pair wrote."""
    return Signal(written.doubt, written.content)


@torch.no_grad()
def observe(pair: Pair, router: Router, prompts: Sequence[str], written: Written) -> Signal:
    """The signal of `router` along texts of the aligned model alone, by forwards of the base."""
    form = pair.config.prompt_format
    heads = [base_ids(pair.tokenizer, prompt, form) for prompt in prompts]
    rows = [(head, text) for head, texts in zip(heads, written.ids, strict=True) for text in texts]
    step = batch_rows(pair.base, max(len(head) + len(text) for head, text in rows))
    parts = [_observe(pair, router, rows[i : i + step]) for i in range(0, len(rows), step)]
    doubt, content = (torch.cat(columns) for columns in zip(*parts, strict=True))
    kept = thinned(len(doubt))
    return Signal(doubt[kept], content[kept])


def _observe(
    pair: Pair, router: Router, rows: Sequence[tuple[list[int], list[int]]]
) -> tuple[Tensor, Tensor]:
    base, device = pair.base, pair.base.device
    head, head_mask = pad_left([head for head, _ in rows])  # [R, L]
    new = max(len(text) for _, text in rows)
    text = torch.tensor([[*text, *[0] * (new - len(text))] for _, text in rows])  # [R, T]
    live = torch.tensor([[1] * len(t) + [0] * (new - len(t)) for _, t in rows])
    mask = torch.cat([head_mask, live], 1)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    known = base.get_input_embeddings().num_embeddings  # an id beyond ends a text: nothing follows
    logits = base(
        torch.cat([head, text], 1).clamp(max=known - 1).to(device),
        attention_mask=mask.to(device),
        position_ids=positions.to(device),
    ).logits[:, -new - 1 : -1]  # [R, T, V]: before each token of the text
    decision = _decide(pair, router, logits, text.to(device))
    asked = (decision.free.reshape(live.shape).cpu()) & live.bool()
    doubt = decision.doubt.reshape(live.shape).cpu().double()
    return doubt[asked], decision.content.reshape(live.shape).cpu()[asked]


def _decide(pair: Pair, router: Router, logits: Tensor, text: Tensor) -> Decision:
    """All positions of all rows at once, as if the aligned model had written every token."""
    count, new = text.shape
    width = pair.aligned.get_input_embeddings().num_embeddings
    steps = torch.arange(new, device=text.device).repeat(count)
    last = torch.cat([text[:, :1], text[:, :-1]], 1).flatten()
    policy = Policy(router, None if router.doubt is None else "never")
    return decide(
        policy,
        fit_width(logits.flatten(0, 1).float(), width),
        None,
        History(steps, last, torch.zeros_like(last, dtype=torch.bool)),
        read_vocabulary(pair.tokenizer).fit(width, text.device),
    )
