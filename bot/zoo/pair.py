"""What the routing pair is worth: quality by rule against diversity, on the held-out prompts.

Sampling at temperature 1 from the whole vocabulary. The base reads a prompt as plain text and an
empty line, the aligned model in its chat format.
"""

from dataclasses import dataclass

import torch
from transformers import LlamaForCausalLM

from bot.zoo import family, quality, stories, suite, tokenizer, training
from route.measure import cut, distinct, self_bleu

BASE, ALIGNED = "storybase", "aligned"
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


def measure(
    name: str, weights: family.Weights, *, version: str = suite.NEWEST.version, seed: int = 0
) -> Prose:
    """Sample answers of `storybase` or `aligned` to an edition's held-out prompts, measure them."""
    model = family.model_of(weights)
    torch.manual_seed(seed)
    rows = []
    for prompt in suite.prompts("held-out", version):
        texts = sample(model, asked(name, prompt))
        grades = [quality.grade(prompt, text) for text in texts]
        words = cut(texts, WORDS)
        parts = [(g.value, g.topic, g.form, g.ending) for g in grades]
        means = torch.tensor(parts).mean(dim=0).tolist()
        length = sum(len(text.split()) for text in texts) / SAMPLES
        rows.append([*means, distinct(words, 2), self_bleu(words), length])
    return Prose(*torch.tensor(rows).mean(dim=0).tolist())


def asked(name: str, prompt: str) -> str:
    """A prompt as this member reads it."""
    return stories.chat(prompt) if name == ALIGNED else f"{prompt}\n\n"


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
