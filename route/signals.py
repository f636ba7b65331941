"""What a router would have seen along texts that are already written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .measure import batch_rows
from .policy import Decision, History, decide
from .prompts import aligned_ids, base_ids, pad_left
from .rules import Policy, Router, Threshold
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
    threshold: Threshold | None = None if router.doubt is None else "never"
    policy = replace(pair.config, router=router, threshold=threshold).policy()
    heads = [(base_ids(pair.tokenizer, p, form), aligned_ids(pair.tokenizer, p)) for p in prompts]
    rows = [(*head, text) for head, texts in zip(heads, written.ids, strict=True) for text in texts]
    step = batch_rows(pair.base, max(sum(map(len, row)) for row in rows))
    parts = [_observe(pair, policy, rows[i : i + step]) for i in range(0, len(rows), step)]
    doubt, content = (torch.cat(columns) for columns in zip(*parts, strict=True))
    kept = thinned(len(doubt))
    return Signal(doubt[kept], content[kept])


def _observe(
    pair: Pair, policy: Policy, rows: Sequence[tuple[list[int], list[int], list[int]]]
) -> tuple[Tensor, Tensor]:
    """`rows`: what the base reads, what the aligned model reads, the text."""
    texts = [text for _, _, text in rows]
    new = max(map(len, texts))
    text = torch.tensor([[*text, *[0] * (new - len(text))] for text in texts])  # [R, T]
    live = torch.tensor([[1] * len(text) + [0] * (new - len(text)) for text in texts])
    base_logits = _before_each(pair.base, [head for head, _, _ in rows], text, live)
    aligned_logits = None
    if policy.reads_aligned:
        aligned_logits = _before_each(pair.aligned, [head for _, head, _ in rows], text, live)
    decision = _decide(pair, policy, base_logits, aligned_logits, text)
    asked = decision.free.reshape(live.shape).cpu() & live.bool()
    doubt = decision.doubt.reshape(live.shape).cpu().double()
    return doubt[asked], decision.content.reshape(live.shape).cpu()[asked]


def _before_each(model: Any, heads: Sequence[list[int]], text: Tensor, live: Tensor) -> Tensor:
    """The model's logits before each token of the texts [R, T]. -> [R * T, V]"""
    head, head_mask = pad_left(heads)
    mask = torch.cat([head_mask, live], 1)
    known = model.get_input_embeddings().num_embeddings  # an id beyond ends a text: nothing follows
    logits = model(
        torch.cat([head, text], 1).clamp(max=known - 1).to(model.device),
        attention_mask=mask.to(model.device),
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0).to(model.device),
    ).logits
    return torch.as_tensor(logits[:, -text.shape[1] - 1 : -1].flatten(0, 1).float())


def _decide(
    pair: Pair, policy: Policy, base_logits: Tensor, aligned_logits: Tensor | None, text: Tensor
) -> Decision:
    """All positions of all rows at once, as if the aligned model had written every token."""
    device, (count, new) = base_logits.device, text.shape
    width = pair.aligned.get_input_embeddings().num_embeddings
    last = torch.cat([text[:, :1], text[:, :-1]], 1).flatten().to(device)
    return decide(
        policy,
        fit_width(base_logits, width),
        None if aligned_logits is None else aligned_logits.to(device),
        History(torch.arange(new, device=device).repeat(count), last, torch.zeros_like(last) > 0),
        read_vocabulary(pair.tokenizer).fit(width, device),
    )
