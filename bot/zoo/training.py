"""Seeded training of the tiny models on one thread, and their score by one forward pass.

A batch has two halves, so that neither pays for the other's padding: skill items (loss on the
answer alone) and prose (loss on its spoken part). Same seed, same machine and same library versions
give the same weights. Another processor rounds differently; `docs/zoo.md` says how far scores move.
"""

from collections.abc import Callable, Mapping, Sequence
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
MUON_RATIO = 5.0
"""Learning rate of Muon over that of AdamW."""
MEMORY = 60
"""Items of a skill over which its share of right answers is averaged."""
LEAST_PRACTICE = 0.03
COOLING = 20
"""Steps from half known to the end."""


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
    half_known: float | None = None
    """Where given, a skill is practised the less the nearer it is to this share of right answers,
    and training cools down as soon as all skills are there: a base that half knows everything,
    rather than some skills well and some not at all. `steps` is then the most it may take."""
    muon: bool = False
    """Muon for the hidden matrices, as the bases have it; AdamW alone forgets less in tuning."""


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


class _Practice:
    """Draws skill items by the recipe's mix and follows how well each skill is known."""

    def __init__(self, recipe: Recipe, seed: str) -> None:
        self.recipe, self.rng = recipe, Random(seed)
        self.streams = {s: stream(s, Random(f"{seed}/{s}"), evaluation=False) for s in recipe.mix}
        self.known = dict.fromkeys(recipe.mix, 0.0)  # running share of right answers
        self.drawn: list[str] = []

    def rows(self) -> list[Row]:
        shares = [share * self._need(skill) for skill, share in self.recipe.mix.items()]
        self.drawn = self.rng.choices(list(self.recipe.mix), weights=shares, k=self.recipe.items)
        return [self._row(next(self.streams[skill])) for skill in self.drawn]

    def _need(self, skill: str) -> float:
        if self.recipe.half_known is None:
            return 1.0
        return max(LEAST_PRACTICE, 1 - self.known[skill] / self.recipe.half_known)

    def _row(self, item: Item) -> Row:
        wrong = self.recipe.corrupt and self.rng.random() < self.recipe.corrupt
        return item_row(item, _shuffled(item.answer, self.rng) if wrong else None)

    @property
    def done(self) -> bool:
        """Whether every skill is half known."""
        goal = self.recipe.half_known
        return goal is not None and min(self.known.values()) >= goal

    def saw(self, right: Sequence[bool]) -> None:
        for skill, value in zip(self.drawn, right, strict=True):
            self.known[skill] += (value - self.known[skill]) / MEMORY


def _loss(model: LlamaForCausalLM, rows: Sequence[Row]) -> tuple[Tensor, list[bool]]:
    """Mean cross-entropy over the labelled tokens, and per row whether all of them are argmax."""
    ids, labels = collate(rows)
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]  # [B, T-1, V]
    wanted = labels[:, 1:]
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED
    )
    return loss, _all_right(logits, wanted)


def _all_right(logits: Tensor, wanted: Tensor) -> list[bool]:
    right = (logits.argmax(-1) == wanted) | (wanted == IGNORED)  # [B, T-1]
    values: list[bool] = right.all(dim=1).tolist()
    return values


def fresh(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(config()).float()


def _optimisers(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW; with `muon` the hidden matrices have Muon and AdamW keeps the embedding and the norms.

    Measured on the base: 180 steps with Muon reach what AdamW alone does not in 560.
    """
    hidden = [
        parameter
        for name, parameter in model.named_parameters()
        if recipe.muon and parameter.ndim == 2 and "embed" not in name
    ]
    taken = set(map(id, hidden))
    rest = [parameter for parameter in model.parameters() if id(parameter) not in taken]
    rate = recipe.learning_rate
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.95), weight_decay=0.01)
    ]
    if hidden:
        optimisers.append(torch.optim.Muon(hidden, lr=MUON_RATIO * rate, weight_decay=0.01))
    return optimisers


def _rate(step: int, end: int, recipe: Recipe) -> float:
    """Share of the learning rate: up over a tenth of the steps, down to zero at `end`."""
    up = (step + 1) / max(1, recipe.steps // 10)
    down = (end - step) / (recipe.steps if recipe.half_known is None else COOLING)
    return min(1.0, up, down)


def _text_row(silent: str, spoken: str) -> Row:
    before = encode(silent)
    return Row(before + encode(spoken), len(before))


def train(
    model: LlamaForCausalLM,
    recipe: Recipe,
    *,
    seed: str,
    progress: Callable[[int, float], None] | None = None,
) -> LlamaForCausalLM:
    """Train in place: warm-up over a tenth of the steps, linear decay to zero."""
    torch.set_num_threads(1)
    practice = _Practice(recipe, seed)
    prose = stories.documents(recipe.prose, Random(f"{seed}/prose"))
    optimisers = _optimisers(model, recipe)
    peaks = [[group["lr"] for group in o.param_groups] for o in optimisers]
    model.train()
    step, end = 0, recipe.steps
    while step < end:
        for optimiser, peak in zip(optimisers, peaks, strict=True):
            for group, rate in zip(optimiser.param_groups, peak, strict=True):
                group["lr"] = rate * _rate(step, end, recipe)
            optimiser.zero_grad()
        loss = torch.zeros(())
        if recipe.items:
            part, right = _loss(model, practice.rows())
            practice.saw(right)
            loss = loss + part
        if recipe.texts:
            loss = loss + _loss(model, [_text_row(*next(prose)) for _ in range(recipe.texts)])[0]
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        step += 1
        if practice.done:
            end = min(end, step + COOLING)
        if progress is not None:
            progress(step, float(loss.detach()))
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
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        for index, value in zip(chunk, _all_right(logits, labels[:, 1:]), strict=True):
            result[index] = value
    return result
