"""Seeded training of the tiny models on one thread, and their score by one forward pass.

A batch has two halves, so that neither pays for the other's padding: skill items (loss on the
answer alone) and prose (loss on its spoken part). Same seed, same machine and same library versions
give the same weights. Another processor rounds differently; `docs/zoo.md` says how far scores move.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from bot.zoo import stories, tokenizer
from bot.zoo.skills import Item, stream

IGNORED = -100


@dataclass(frozen=True)
class Recipe:
    """How one member is trained; `mix` gives each skill its share of the `items` in a batch."""

    steps: int
    learning_rate: float
    mix: Mapping[str, float] = field(default_factory=dict)
    items: int = 0
    """Skill items a batch."""
    texts: int = 0
    """Prose documents a batch."""
    prose: str = "broad"
    """Which documents: `broad` or `tidy` (bot.zoo.stories)."""
    corrupt: float = 0.0
    """Share of skill answers whose characters are shuffled: how a bad fine-tune is made."""


@dataclass(frozen=True)
class Row:
    """Token ids of one document and how many of them, from the start, carry no loss."""

    ids: list[int]
    silent: int


def config() -> LlamaConfig:
    """About 0.67 M parameters, embeddings tied."""
    return LlamaConfig(
        vocab_size=len(tokenizer.vocabulary()),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )


def save_config(folder: Path) -> None:
    """Write `config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    config().save_pretrained(folder)


@cache
def _core() -> Tokenizer:
    return tokenizer.build()


def encode(text: str) -> list[int]:
    return list(_core().encode(text).ids)


def item_row(item: Item, answer: str | None = None) -> Row:
    prompt = encode(item.prompt)
    return Row(prompt + encode(item.answer if answer is None else answer), len(prompt))


def collate(rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Ids and labels, both [B, T], padded on the right; padding and prompts carry no label."""
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    for index, row in enumerate(rows):
        tokens = torch.tensor(row.ids)
        ids[index, : len(tokens)] = tokens
        labels[index, row.silent : len(tokens)] = tokens[row.silent :]
    return ids, labels


def _shuffled(answer: str, rng: Random) -> str:
    body = list(answer[:-1])
    rng.shuffle(body)
    return "".join(body) + answer[-1]


def _item_rows(recipe: Recipe, streams: Mapping[str, Iterator[Item]], rng: Random) -> list[Row]:
    skills = rng.choices(list(recipe.mix), weights=list(recipe.mix.values()), k=recipe.items)
    rows = []
    for skill in skills:
        item = next(streams[skill])
        wrong = recipe.corrupt and rng.random() < recipe.corrupt
        rows.append(item_row(item, _shuffled(item.answer, rng) if wrong else None))
    return rows


def _loss(model: LlamaForCausalLM, rows: Sequence[Row]) -> Tensor:
    ids, labels = collate(rows)
    logits = model(input_ids=ids, use_cache=False).logits  # [B, T, V]
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED
    )


def fresh(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(config()).float()


def train(
    model: LlamaForCausalLM,
    recipe: Recipe,
    *,
    seed: str,
    progress: Callable[[int, float], None] | None = None,
) -> LlamaForCausalLM:
    """Train in place: AdamW, warm-up over a twentieth of the steps, linear decay to zero."""
    torch.set_num_threads(1)
    rng = Random(seed)
    streams = {s: stream(s, Random(f"{seed}/{s}"), evaluation=False) for s in recipe.mix}
    prose = stories.documents(recipe.prose, Random(f"{seed}/prose"))
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=0.01)
    warm = max(1, recipe.steps // 20)
    model.train()
    for step in range(recipe.steps):
        for group in optimiser.param_groups:
            scale = min((step + 1) / warm, (recipe.steps - step) / (recipe.steps - warm + 1))
            group["lr"] = recipe.learning_rate * scale
        total = torch.zeros(())
        if recipe.items:
            total = total + _loss(model, _item_rows(recipe, streams, rng))
        if recipe.texts:
            rows = [next(prose) for _ in range(recipe.texts)]
            total = total + _loss(
                model, [Row(encode(a) + encode(b), len(encode(a))) for a, b in rows]
            )
        optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if progress is not None:
            progress(step, float(total.detach()))
    return model.eval()


@torch.no_grad()
def outcomes(model: LlamaForCausalLM, items: Sequence[Item], batch: int = 256) -> list[bool]:
    """Per item: is every answer token the argmax, i.e. would greedy decoding give the answer."""
    rows = [item_row(item) for item in items]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    result = [False] * len(rows)
    for start in range(0, len(order), batch):
        chunk = order[start : start + batch]
        ids, labels = collate([rows[index] for index in chunk])
        best = model(input_ids=ids, use_cache=False).logits[:, :-1].argmax(-1)  # [B, T-1]
        right = ((best == labels[:, 1:]) | (labels[:, 1:] == IGNORED)).all(dim=1)
        for index, value in zip(chunk, right.tolist(), strict=True):
            result[index] = value
    return result
