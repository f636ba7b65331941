"""One model's half of the two-model loop: its cache, mask, positions, and count of forwards.

Works with decoder-only transformers models that take a key-value cache. The mask is dropped while
every slot is real, as transformers' own `generate` does, so both take the same attention path.
Where rows of a batch forget differently, forgotten slots stay as masked holes until there are
enough of them to move the rest together (`compact`).
"""

import inspect
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache
from transformers.cache_utils import DynamicLayer, StaticLayer


class ModelSide:
    """A model together with what it has read so far.

    `attention_mask`: [B, L] of the prompt, left-padded, or None where every token is real.
    `width`: how many ids a text may hold; the logits are cut or filled to it (0: as the head is),
    and an id beyond what the model knows is skipped, see `read`.
    `most`: how many new tokens a text may get.
    """

    def __init__(
        self,
        model: Any,
        attention_mask: Tensor | None,
        cache: Any = None,
        *,
        width: int = 0,
        most: int = 0,
    ) -> None:
        accepts = inspect.signature(model.forward).parameters
        named = cache_name(accepts)
        if model.config.is_encoder_decoder or named is None or not has_keys(model):
            raise ValueError(
                f"{type(model).__name__} is no decoder-only model with a key-value cache"
            )
        self.model = model
        self.forwards = 0
        self.cache = cache if cache is not None else DynamicCache(config=model.config)
        if int(self.cache.get_seq_length()) > 0:
            raise ValueError(f"routed decoding starts from an empty cache, not from {named}")
        self._named = named
        self.mask = attention_mask
        self.slots = 0  # filled ones of the cache
        self.prompt = 0  # of these, the prompt's, padding included
        self.next_position: Tensor | None = None  # [B or 1, 1]
        self.known_ids: int = model.get_input_embeddings().num_embeddings
        self.foreign_ids = width > self.known_ids
        self.logits: Tensor | None = None  # [B, V] after the last token read
        self._width, self._most = width, most
        self.positioned = "position_ids" in accepts
        self._keep = "logits_to_keep" in accepts

    @property
    def room(self) -> int | None:
        """Free slots of a static cache, or of as many as the model has positions for (more where
        the text is to be longer: it may extrapolate); None where neither is limited."""
        if isinstance(self.cache, StaticCache):
            return int(self.cache.layers[0].max_cache_len) - self.slots
        config = self.model.config
        positions = getattr(config, "max_position_embeddings", getattr(config, "max_seq_len", None))
        return positions and max(positions, self.prompt + self._most) - self.slots

    def read_prompt(self, ids: Tensor, times: int = 1) -> Tensor:
        """Logits [B, V] (float32) after a prompt [B / times, L], each row read once.

        The mask, like everything after, has B rows. Raises ValueError where the prompt holds an id
        that the model has no embedding for.
        """
        if int(ids.max()) >= self.known_ids:
            raise ValueError(
                f"the prompt holds id {int(ids.max())}, but {type(self.model).__name__} knows only "
                f"{self.known_ids} ids; give the base its own prompt with prompts= or base_inputs="
            )
        if self.mask is not None and bool(self.mask.all()):
            self.mask = None
        static = isinstance(self.cache, StaticCache)
        if times > 1 and (static or not can_forget(self.model, self.cache)):
            ids, times = ids.repeat_interleave(times, 0), 1
        whole = self.mask
        if self.mask is None:
            positions = torch.arange(ids.shape[1], device=ids.device)[None]
        else:
            self.mask = self.mask[::times]
            positions = (self.mask.long().cumsum(-1) - 1).clamp(min=0)
        logits = self._forward(ids, positions, 1)[:, -1]
        if times > 1:
            self.cache.batch_repeat_interleave(times)
            logits = logits.repeat_interleave(times, 0)
            if whole is not None:
                self.next_position = positions[:, -1:].repeat_interleave(times, 0) + 1
        self.mask, self.logits, self.prompt = whole, logits, self.slots
        return logits

    def read(self, tokens: Tensor, last: int = 1) -> Tensor:
        """Logits [B, last, V] after the `last` ones of k more tokens per row [B, k].

        Float32 for one position; for several as the model gives them, to save their copy. Of single
        tokens (k = 1), one that the model has no embedding for is skipped: its slot is masked, and
        the row's position and logits stay as they were.
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

    def keep(self, count: Tensor, of: int, longest: int, even: bool) -> None:
        """Forget all but the first `count` [B] of the last `of` tokens read.

        `longest`: the largest count; `even`: whether all counts are equal. What every row forgets
        is dropped from the cache; what only some do stays as a masked hole.
        """
        if longest < of:
            self._drop(of - longest)
            if self.mask is not None:
                self.mask = self.mask[:, : longest - of]
        if not even:
            mask = self._full_mask(len(count)).clone()
            mask[:, -longest:] *= torch.arange(longest, device=count.device)[None] < count[:, None]
            self.mask = mask
        if self.mask is None:
            self.next_position = torch.full((1, 1), self.slots, device=count.device)
        else:
            self.next_position = self.mask.long().sum(1, keepdim=True)

    def compact(self, running: Tensor) -> None:
        """Move the real slots of each row together, at the right; rows that do not run [B] lose
        theirs. Keys carry their own positions, so attention does not see the difference."""
        if self.mask is None:
            return
        mask = self.mask * running[:, None]
        width = max(1, int(mask.sum(1).max()))
        order = mask.argsort(dim=1, stable=True)[:, self.slots - width :]  # [B, width]
        for layer in self.cache.layers:
            if not layer.is_initialized:  # it shares another layer's keys
                continue
            where = order[:, None, :, None].to(layer.keys.device)
            for name in ("keys", "values"):
                old = getattr(layer, name)
                new = old.gather(2, where.expand(-1, old.shape[1], -1, old.shape[3]))
                if isinstance(layer, StaticLayer):
                    old[:, :, :width] = new
                else:
                    setattr(layer, name, new)
            if isinstance(layer, StaticLayer):
                layer.cumulative_length.fill_(width)
        self.mask, self.slots = mask.gather(1, order), width
        self.next_position = self.mask.long().sum(1, keepdim=True)

    def _drop(self, slots: int) -> None:
        """Take the last slots back from the cache."""
        self.slots -= slots
        for layer in self.cache.layers:
            if isinstance(layer, StaticLayer):
                layer.cumulative_length.sub_(slots)  # in place: compiled code keeps its address
            else:
                layer.crop(-slots)

    def _full_mask(self, batch: int) -> Tensor:
        assert self.next_position is not None
        if self.mask is not None:
            return self.mask
        return torch.ones(batch, self.slots, dtype=torch.long, device=self.next_position.device)

    def _forward(self, ids: Tensor, positions: Tensor, last: int) -> Tensor:
        """Logits [B, last, V] of one forward."""
        inputs: dict[str, Any] = {"input_ids": ids.to(self.model.device)}
        if self.positioned:
            inputs["position_ids"] = positions.to(self.model.device)
        if self._keep:
            inputs["logits_to_keep"] = last
        if self.mask is not None:
            inputs["attention_mask"] = self.mask.to(self.model.device)
        inputs[self._named] = self.cache
        output = self.model(**inputs, use_cache=True, return_dict=True)
        self.forwards += 1
        self.slots += ids.shape[1]
        self.next_position = positions[:, -1:] + 1
        logits: Tensor = fit_width(output.logits[:, -last:].to(ids.device), self._width)
        if last == 1:
            logits = logits.to(copy=True, dtype=torch.float32)
            self.logits = logits[:, -1]
        return logits


def fit_width(logits: Tensor, width: int) -> Tensor:
    """The base's logits on the aligned head's ids: padded heads differ in width. [..., V'] -> V

    Ids that the base lacks get probability 0, ids that only the base has are dropped; 0: no change.
    """
    if width == 0 or logits.shape[-1] == width:
        return logits
    if logits.shape[-1] > width:
        return logits[..., :width]
    missing = logits.new_full((*logits.shape[:-1], width - logits.shape[-1]), -torch.inf)
    return torch.cat([logits, missing], dim=-1)


def cache_name(names: Collection[str]) -> str | None:
    """Which of the names is a key-value cache's: `cache` since transformers 5.24."""
    return next((name for name in ("past_key_values", "cache") if name in names), None)


def given_cache(model_kwargs: dict[str, Any]) -> Any:
    """The cache that `generate` has prepared, or None."""
    name = cache_name(model_kwargs)
    return None if name is None else model_kwargs[name]


def has_keys(model: Any) -> bool:
    """Whether some layer of the model's cache holds keys: not a state space alone."""
    layers = DynamicCache(config=model.config).layers
    return not layers or any(hasattr(layer, "keys") for layer in layers)


def cache_like(cache: Any, model: Any, length: int) -> Any:
    """An empty cache for `model` of the kind of `cache`, static ones with `length` slots."""
    if isinstance(cache, StaticCache):
        return StaticCache(config=model.config, max_cache_len=length)
    return DynamicCache(config=model.config)


def can_forget(model: Any, cache: Any = None) -> bool:
    """Whether the model's cache can take tokens back: plain attention in every layer."""
    layers = getattr(cache, "layers", None) or DynamicCache(config=model.config).layers
    return all(type(layer) in (DynamicLayer, StaticLayer) for layer in layers)
