"""`model.generate(..., custom_generate="ORG/NAME")`: the aligned model and a base write together.

    output = aligned.generate(
        **inputs,
        custom_generate="ORG/NAME",
        trust_remote_code=True,
        base_model=base,
        tokenizer=tokenizer,
        do_sample=True,
        top_k=0,
    )

Everything that `generate` takes keeps its meaning: sampling options, stopping, streaming,
`num_return_sequences`, `return_dict_in_generate`. Tested with transformers 5.10.1, 5.18.0, 5.23.0
and 5.24.0; it relies on `GenerationMixin.generate` accepting a callable, on how the layers of a
cache hold keys, and on private names for end and pad tokens.
Not promised: that a text is as safe as the aligned model's. Base tokens bypass its alignment.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin, StoppingCriteriaList, StopStringCriteria

from .block import block_sample
from .config import ConfigError, RouterConfig
from .decode import BaseInput, RoutedOutput, routed_sample
from .noise import Generators
from .pins import check_pin
from .prompts import base_prompt
from .settings import ROUTER_JSON
from .vocab import check_digest, prove_identical, read_vocabulary

#: What transformers passes on although it was meant for loading this code.
_LOADING = (
    *("trust_remote_code", "custom_generate", "revision", "token", "cache_dir", "subfolder"),
    *("proxies", "repo_type", "user_agent", "force_download", "local_files_only"),
)


class Execution(StrEnum):
    """How the two models take turns. The law of the text is the same."""

    EAGER = "eager"
    """Both read every token."""
    LAZY = "lazy"
    """The aligned model reads when it is needed, what it missed in one forward. The same text."""
    BLOCK = "block"
    """The base drafts several tokens, one forward of the aligned model settles them."""


_LOOPS: dict[Execution, Callable[..., Tensor | RoutedOutput]] = {
    Execution.EAGER: routed_sample,
    Execution.LAZY: partial(routed_sample, lazy=True),
    Execution.BLOCK: block_sample,
}


def generate(
    model: Any,
    inputs: Tensor | None = None,
    *,
    base_model: Any = None,
    tokenizer: Any = None,
    base_tokenizer: Any = None,
    base_inputs: Any = None,
    prompts: str | Sequence[str] | None = None,
    preset: str | None = None,
    generator: Generators = None,
    seed: int | None = None,
    execution: str = Execution.EAGER,
    config: RouterConfig | None = None,
    streamer: Any = None,
    stop_strings: str | list[str] | None = None,
    stopping_criteria: Any = None,
    assistant_model: Any = None,
    **kwargs: Any,
) -> Tensor | RoutedOutput:
    """Continue the inputs with the aligned `model` and `base_model`. -> [B * N, L + T]

    `tokenizer`: the one both models share; a `base_tokenizer`, if given, is proven to be the same.
    The base reads the same ids unless `base_inputs` (its own ids, left-padded) or `prompts` (raw
    texts, formatted as the router was calibrated) is given. `preset`: one of the router's names.
    `seed`: one random stream per row; or `generator`, one for the batch or a list of one per row;
    else torch's default stream, in the order in which plain sampling would use it. `execution`:
    one of `Execution`.

    Raises ValueError: ConfigError, PromptFormatError (says which argument to add), PinMismatch
    (says which model is another), VocabularyMismatch, or for a decoding mode that is not supported.
    """
    config = config if config is not None else published_config()
    check_request(base_model, tokenizer, execution, seed, generator, assistant_model)
    check_pin(config.base, base_model, "base")
    check_pin(config.aligned, model, "aligned")
    check_digest(tokenizer, config.vocabulary.size, config.vocabulary.digest)
    if base_tokenizer is not None:
        prove_identical(base_tokenizer, tokenizer)

    ids = prompt_ids(inputs, kwargs)
    own_prompt = base_prompt(config.prompt_format, tokenizer, ids, base_inputs, prompts)
    times = kwargs.get("num_return_sequences") or _configured(model, kwargs, "num_return_sequences")
    loop = partial(
        _LOOPS[Execution(execution)],
        base=BaseInput(base_model, *own_prompt),
        policy=config.policy(preset),
        vocabulary=read_vocabulary(tokenizer),
        generators=row_generators(seed, len(ids) * times, ids) if seed is not None else generator,
        streamer=streamer,
    )
    output: Tensor | RoutedOutput = GenerationMixin.generate(
        model,
        ids,
        custom_generate=loop,
        streamer=streamer,
        stopping_criteria=with_stop_strings(stopping_criteria, tokenizer, stop_strings),
        **{k: v for k, v in kwargs.items() if v is not None and k not in _LOADING},
    )
    return output


def check_request(
    base_model: Any,
    tokenizer: Any,
    execution: str,
    seed: int | None,
    generator: Generators,
    assistant_model: Any,
) -> None:
    """Raise ValueError for arguments of `generate` that are missing or do not go together."""
    if base_model is None or tokenizer is None:
        raise ValueError(
            "routed decoding needs a second model and the tokenizer: add base_model= and tokenizer="
        )
    if execution not in list(Execution):
        known = ", ".join(Execution)
        raise ValueError(f"no execution {execution!r}; there are {known}")
    if seed is not None and generator is not None:
        raise ValueError("give seed= or generator=, not both")
    if assistant_model is not None:
        raise ValueError("routed decoding does not support assistant_model; pass base_model=")


def prompt_ids(inputs: Tensor | None, kwargs: dict[str, Any]) -> Tensor:
    """The aligned model's ids [B, L], taken out of `kwargs` where they stand there.

    Raises ValueError for anything else.
    """
    ids = inputs if inputs is not None else kwargs.pop("input_ids", None)
    if not isinstance(ids, Tensor) or ids.dim() != 2 or ids.numel() == 0:
        raise ValueError(
            "routed decoding needs the aligned model's ids [B, L] as input_ids, with L at least 1"
        )
    return ids


def with_stop_strings(criteria: Any, tokenizer: Any, strings: str | list[str] | None) -> Any:
    """The criteria and, where strings are given, one that ends a text at any of them."""
    if strings is None:
        return criteria
    return StoppingCriteriaList([*(criteria or []), StopStringCriteria(tokenizer, strings)])


def published_config() -> RouterConfig:
    """The router this code was published with. Raises ConfigError in the library itself."""
    if not ROUTER_JSON:
        raise ConfigError("no router was published with this code: pass config=RouterConfig(...)")
    return RouterConfig.from_json(ROUTER_JSON)


def row_generators(seed: int, rows: int, ids: Tensor) -> list[torch.Generator]:
    """One stream per row, so that a row's text does not depend on how many others there are."""
    first = torch.Generator().manual_seed(seed)
    seeds = [int(torch.randint(2**62, (1,), generator=first)) for _ in range(rows)]
    return [torch.Generator(device=ids.device).manual_seed(one) for one in seeds]


def _configured(model: Any, kwargs: dict[str, Any], name: str) -> int:
    """A generation setting that the call itself does not give; 1 where nobody does."""
    given = kwargs.get("generation_config")
    return getattr(given, name, None) or getattr(model.generation_config, name, None) or 1
