"""One model's half of the two-model loop: its cache, mask, positions, and count of forwards.

Works with decoder-only transformers models that take `past_key_values`. The mask is dropped while
every slot is real, as transformers' own `generate` does, so both take the same attention path.
"""

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache
from transformers.cache_utils import DynamicLayer


class ModelSide:
    """A model together with what it has read so far.

    `attention_mask`: [B, L] of the prompt, left-padded, or None where every token is real.
    `ids`: how many ids may come; those beyond what the model knows are skipped, see `read`.
    """

    def __init__(
        self, model: Any, attention_mask: Tensor | None, cache: Any = None, *, ids: int = 0
    ) -> None:
        accepts = inspect.signature(model.forward).parameters
        if model.config.is_encoder_decoder or "past_key_values" not in accepts:
            raise ValueError(
                f"{type(model).__name__} is no decoder-only model with a key-value cache"
            )
        self.model = model
        self.forwards = 0
        self.cache = cache if cache is not None else DynamicCache(config=model.config)
        if self.cache.get_seq_length() > 0:
            raise ValueError("routed decoding starts from an empty cache, not from past_key_values")
        self.mask = attention_mask
        self.next_position: Tensor | None = None  # [B or 1, 1]
        self.known_ids: int = model.get_input_embeddings().num_embeddings
        self.foreign_ids = ids > self.known_ids
        self.logits: Tensor | None = None  # [B, V] after the last token read
        self._positions = "position_ids" in accepts
        self._keep = "logits_to_keep" in accepts

    def read_prompt(self, ids: Tensor) -> Tensor:
        """Logits [B, V] (float32) after a prompt [B, L].

        Raises ValueError where the prompt holds an id that the model has no embedding for.
        """
        if int(ids.max()) >= self.known_ids:
            raise ValueError(
                f"the prompt holds id {int(ids.max())}, but {type(self.model).__name__} knows only "
                f"{self.known_ids} ids; give the base its own prompt with prompts= or base_inputs="
            )
        if self.mask is not None and bool(self.mask.all()):
            self.mask = None
        if self.mask is None:
            positions = torch.arange(ids.shape[1], device=ids.device)[None]
        else:
            positions = (self.mask.long().cumsum(-1) - 1).clamp(min=0)
        return self._forward(ids, positions, 1)[:, -1]

    def read(self, tokens: Tensor, last: int = 1) -> Tensor:
        """Logits [B, last, V] (float32) after the `last` ones of k more tokens per row [B, k].

        Of single tokens (k = 1), one that the model has no embedding for is skipped: its slot is
        masked, and the row's position and logits stay as they were.
        """
        assert self.next_position is not None
        if self.foreign_ids and not bool((known := tokens < self.known_ids).all()):
            return self._read_known(tokens, known)
        if self.mask is not None:
            self.mask = torch.cat([self.mask, self.mask.new_ones(tokens.shape)], dim=1)
        ahead = torch.arange(tokens.shape[1], device=tokens.device)[None]
        return self._forward(tokens, self.next_position + ahead, last)

    def _read_known(self, tokens: Tensor, known: Tensor) -> Tensor:
        assert self.next_position is not None
        assert self.logits is not None
        before, position = self.logits, self.next_position
        mask = self._full_mask(len(tokens))
        self.mask = torch.cat([mask, known.to(mask.dtype)], dim=1)
        after = self._forward(tokens.masked_fill(~known, 0), position, 1)[:, -1]
        self.next_position = position + known.long()
        self.logits = torch.where(known, after, before)
        return self.logits[:, None]

    def keep(self, count: Tensor, of: int) -> None:
        """Forget all but the first `count` [B] of the last `of` tokens read.

        What every row forgets is cropped; what only some do stays as a masked hole.
        """
        assert self.next_position is not None
        longest = int(count.max())
        if longest < of:
            self.cache.crop(longest - of)
            if self.mask is not None:
                self.mask = self.mask[:, : longest - of]
        if bool((count < longest).any()):
            mask = self._full_mask(len(count))
            live = torch.arange(longest, device=count.device)[None] < count[:, None]
            self.mask = torch.cat([mask[:, : mask.shape[1] - longest], live.to(mask.dtype)], dim=1)
        self.next_position = self.next_position - of + count[:, None]

    def _full_mask(self, batch: int) -> Tensor:
        if self.mask is not None:
            return self.mask
        slots = self.cache.get_seq_length()
        return torch.ones(batch, slots, dtype=torch.long, device=self.model.device)

    def _forward(self, ids: Tensor, positions: Tensor, last: int) -> Tensor:
        """Logits [B, last, V] of one forward."""
        inputs: dict[str, Any] = {"input_ids": ids.to(self.model.device)}
        if self._positions:
            inputs["position_ids"] = positions.to(self.model.device)
        if self._keep:
            inputs["logits_to_keep"] = last
        if self.mask is not None:
            inputs["attention_mask"] = self.mask.to(self.model.device)
        output = self.model(**inputs, past_key_values=self.cache, use_cache=True, return_dict=True)
        self.forwards += 1
        self.next_position = positions[:, -1:] + 1
        logits: Tensor = output.logits[:, -last:].to(
            copy=True, dtype=torch.float32, device=ids.device
        )
        self.logits = logits[:, -1]
        return logits


def cache_like(cache: Any, model: Any, length: int) -> Any:
    """An empty cache for `model` of the kind of `cache`, static ones with `length` slots."""
    if isinstance(cache, StaticCache):
        return StaticCache(config=model.config, max_cache_len=length)
    return DynamicCache(config=model.config)


def can_forget(model: Any) -> bool:
    """Whether the model's cache can drop tokens: plain attention in every layer."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
