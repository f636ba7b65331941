"""Models and tokenizers in the child: trusted configuration, strangers' tensors.

`config` is always the folder that the operator chose (config.json and tokenizer of the pinned
base). Weights come from any folder, and only as tensors, through `merge.live`: nothing else of a
stranger's folder is opened, and transformers never sees its path.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.initialization import no_init_weights

from merge.live import LiveSoup


def tokenizer(config: Path) -> PreTrainedTokenizerBase:
    """The trusted folder's tokenizer; it must be there, nothing is downloaded."""
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        config, local_files_only=True, trust_remote_code=False
    )
    return loaded


def empty_model(config: Path) -> PreTrainedModel:
    """The trusted folder's architecture, in its dtype, with parameters that must yet be written."""
    read = AutoConfig.from_pretrained(config, local_files_only=True, trust_remote_code=False)
    with no_init_weights():
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            read, dtype=read.dtype or torch.float32
        )
    model.tie_weights()  # left out together with the initial values
    return model.to(device()).eval().requires_grad_(False)


def load_model(config: Path, weights: Path) -> PreTrainedModel:
    """One set of weights, by the same kernel that writes a soup: as a soup of one.

    Raises merge.errors.Refused where the tensors do not fit the architecture.
    """
    model = empty_model(config)
    live_soup(model, [weights]).write([Fraction(1)])
    return model


def live_soup(model: PreTrainedModel, members: Sequence[Path]) -> LiveSoup:
    """The members, mapped, to be mixed into `model`. Raises merge.errors.Refused.

    They are full checkpoints: admission refuses adapters (`unsupported-adapter`).
    """
    return LiveSoup(model, members, threads=torch.get_num_threads())


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
