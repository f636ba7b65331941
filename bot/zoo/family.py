"""Weights on disk and in memory, soups of them, and their outcomes on the suite's three splits.

Scores are of the weights as they ship, rounded to bfloat16, computed in float32.
"""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaForCausalLM

from bot.suites import Suite, items, load_suite
from bot.zoo import training
from bot.zoo.skills import Item
from merge.outcomes import Outcomes
from merge.splits import Split

Weights = Mapping[str, Tensor]
SPLIT_SEED = 0


def weights_of(model: LlamaForCausalLM) -> dict[str, Tensor]:
    """The model's parameters as bfloat16; the tied head is stored once, as the embedding."""
    return {
        name: tensor.detach().to(torch.bfloat16).contiguous().clone()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }


def model_of(weights: Weights) -> LlamaForCausalLM:
    """A float32 model in evaluation mode."""
    model = training.fresh(0)
    missing = model.load_state_dict({n: t.float() for n, t in weights.items()}, strict=False)
    if missing.unexpected_keys or set(missing.missing_keys) - {"lm_head.weight"}:
        raise ValueError(f"not weights of this family: {missing}")
    return model.eval()


def read(path: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = load_file(path)
    return tensors


def write(weights: Weights, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(weights), path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors creates it for the owner alone


def blend(members: Sequence[Weights], shares: Sequence[Fraction]) -> dict[str, Tensor]:
    """sum_j share_j * member_j in float32, rounded to bfloat16 as a published soup is."""
    return {
        name: sum(
            (
                float(share) * member[name].float()
                for share, member in zip(shares, members, strict=True)
            ),
            start=torch.zeros(()),
        ).to(torch.bfloat16)
        for name in members[0]
    }


class Bench:
    """The suite, split once; outcomes of weights on the items of a split, in item order."""

    def __init__(self, suite: Suite | None = None, seed: int = SPLIT_SEED) -> None:
        self.suite = suite or load_suite("tiny_skills")
        self.splits = self.suite.splits(seed)

    @cached_property
    def items(self) -> dict[Split, dict[str, list[Item]]]:
        return {
            split: {
                category: [Item(category, i.cluster, i.prompt, i.answer) for i in found]
                for category, found in items(self.suite, self.splits, split).items()
            }
            for split in Split
        }

    def clusters(self, split: Split) -> dict[str, list[str]]:
        return {c: [i.cluster for i in found] for c, found in self.items[split].items()}

    def outcomes(self, weights: Weights, split: Split) -> Outcomes:
        model = model_of(weights)
        return Outcomes.from_bits(
            split,
            {c: _bits(training.outcomes(model, found)) for c, found in self.items[split].items()},
        )


def _bits(values: Iterable[bool]) -> str:
    return "".join("1" if value else "0" for value in values)
