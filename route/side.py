"""One model's half of the two-model loop: its cache, mask, positions, and count of forwards.

Works with decoder-only transformers models that take `past_key_values`. The mask is dropped while
every slot is real, as transformers' own `generate` does, so both take the same attention path.
"""

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache


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
        return self._forward(ids, positions)

    def read(self, tokens: Tensor) -> Tensor:
        """Logits [B, V] (float32) after one more token per row [B].

        A token that the model has no embedding for is skipped: its slot is masked, and the row's
        position and logits stay as they were.
        """
        assert self.next_position is not None
        assert self.logits is not None
        if self.foreign_ids and not bool((known := tokens < self.known_ids).all()):
            return self._read_known(tokens, known, self.next_position, self.logits)
        if self.mask is not None:
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        return self._forward(tokens[:, None], self.next_position)

    def _read_known(
        self, tokens: Tensor, known: Tensor, position: Tensor, before: Tensor
    ) -> Tensor:
        if self.mask is None:
            self.mask = tokens.new_ones(len(tokens), self.cache.get_seq_length())
        self.mask = torch.cat([self.mask, known[:, None].to(self.mask.dtype)], dim=1)
        after = self._forward(tokens.masked_fill(~known, 0)[:, None], position)
        self.next_position = position + known[:, None].long()
        self.logits = torch.where(known[:, None], after, before)
        return self.logits

    def _forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        inputs: dict[str, Any] = {"input_ids": ids.to(self.model.device)}
        if self._positions:
            inputs["position_ids"] = positions.to(self.model.device)
        if self._keep:
            inputs["logits_to_keep"] = 1
        if self.mask is not None:
            inputs["attention_mask"] = self.mask.to(self.model.device)
        output = self.model(**inputs, past_key_values=self.cache, use_cache=True, return_dict=True)
        self.forwards += 1
        self.next_position = positions[:, -1:] + 1
        self.logits = output.logits[:, -1].to(copy=True, dtype=torch.float32, device=ids.device)
        return self.logits


def cache_like(cache: Any, model: Any, length: int) -> Any:
    """An empty cache for `model` of the kind of `cache`, static ones with `length` slots."""
    if isinstance(cache, StaticCache):
        return StaticCache(config=model.config, max_cache_len=length)
    return DynamicCache(config=model.config)
