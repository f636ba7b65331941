"""What the routing pair is worth: quality by rule against diversity, on the held-out prompts.

Sampling at temperature 1 from the whole vocabulary. The base reads a prompt as plain text and an
empty line, the aligned model in its chat format.
"""

import json
from dataclasses import dataclass

import torch
from transformers import LlamaForCausalLM

from bot.zoo import family, quality, stories, tokenizer, training
from bot.zoo.members import PROMPTS
from route.measure import cut, distinct, self_bleu

SAMPLES, NEW_TOKENS, WORDS = 8, 40, 20


@dataclass(frozen=True)
class Prose:
    """Means over prompts; `words` is the mean length. The other figures are in [0, 1]."""

    quality: float
    topic: float
    form: float
    ending: float
    distinct_2: float
    self_bleu: float
    words: float


def prompts(split: str) -> list[str]:
    """The committed prompts of `calibrate` or `held-out`."""
    lines = map(json.loads, PROMPTS.read_text().splitlines())
    return [line["prompt"] for line in lines if line["split"] == split]


def measure(weights: family.Weights, chat: bool, seed: int = 0) -> Prose:
    """Sample answers to the held-out prompts and measure them."""
    model = family.model_of(weights)
    torch.manual_seed(seed)
    rows = []
    for prompt in prompts("held-out"):
        texts = sample(model, stories.chat(prompt) if chat else f"{prompt}\n\n")
        grades = [quality.grade(prompt, text) for text in texts]
        words = cut(texts, WORDS)
        rows.append(
            [
                sum(g.value for g in grades) / SAMPLES,
                sum(g.topic for g in grades) / SAMPLES,
                sum(g.form for g in grades) / SAMPLES,
                sum(g.ending for g in grades) / SAMPLES,
                distinct(words, 2),
                self_bleu(words),
                sum(len(text.split()) for text in texts) / SAMPLES,
            ]
        )
    return Prose(*torch.tensor(rows).mean(dim=0).tolist())


def sample(model: LlamaForCausalLM, prompt: str) -> list[str]:
    """Continuations of one prompt, without special tokens."""
    ids = torch.tensor([training.encode(prompt)])  # [1, T]
    written = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        top_k=0,
        max_new_tokens=NEW_TOKENS,
        num_return_sequences=SAMPLES,
        pad_token_id=0,
    )
    tokens = tokenizer.load()
    return [tokens.decode(row[ids.shape[1] :], skip_special_tokens=True) for row in written]
