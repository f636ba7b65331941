"""The text of a batch whose rows are not equally long, and who wrote it."""

from typing import Any

import torch
from torch import Tensor

from .policy import Decision


class Page:
    """Prompts [B, L] and behind each up to `most` new tokens.

    What stands behind a row's `written` tokens is scratch: drafts are laid down before they are
    settled, with room for `ahead` of them beyond the last position.
    """

    def __init__(self, prompt: Tensor, most: int, ahead: int, pad: Tensor | None) -> None:
        batch, device = len(prompt), prompt.device
        self.start, self.most = prompt.shape[1], most
        self._pad = 0 if pad is None else int(pad)
        self.ids = torch.cat([prompt, prompt.new_zeros(batch, most + ahead)], 1)
        self.written = torch.zeros(batch, dtype=torch.long, device=device)
        self.last = prompt[:, -1]  # [B]: each row's newest token
        self.last_by_base = torch.zeros(batch, dtype=torch.bool, device=device)
        self.running = torch.ones_like(self.last_by_base)
        flags = torch.zeros(batch, most + ahead, dtype=torch.bool, device=device)
        self._columns = {name: flags.clone() for name in ("by_base", "free", "content")}
        self._columns["doubt"] = torch.zeros(batch, most + ahead, device=device)
        self._forwards = {side: self.written.clone() for side in ("base", "aligned")}

    def lengths(self) -> list[int]:
        """Prompt and text of each row, in tokens."""
        lengths: list[int] = (self.start + self.written).tolist()
        return lengths

    def places(self, count: int) -> Tensor:
        """The next positions of each row. -> [B, count]"""
        return self.written[:, None] + torch.arange(count, device=self.written.device)[None]

    def span(self) -> Tensor:
        """Tokens of the shortest and of the longest text that goes on; (most, 0) if none does."""
        least = torch.where(self.running, self.written, self.most).min()
        return torch.stack([least, torch.where(self.running, self.written, 0).max()])

    def sketch(self, tokens: Tensor, ahead: Tensor) -> None:
        """Lay down a draft [B], `ahead` [B] positions behind the text."""
        self.ids.scatter_(1, (self.start + self.written + ahead)[:, None], tokens[:, None])

    def add(self, tokens: Tensor, count: Tensor, by_base: Tensor, decision: Decision) -> None:
        """Of m more positions [B, m], the first `count` [B] become text."""
        places = self.places(tokens.shape[1])
        self.ids.scatter_(1, self.start + places, tokens)
        columns = {
            "by_base": by_base,
            "free": decision.free,
            "content": decision.content,
            "doubt": decision.doubt.to(torch.float32),
        }
        for name, values in columns.items():
            self._columns[name].scatter_(1, places, values)
        self.cut(-count)

    def cut(self, count: Tensor) -> None:
        """Take the last `count` [B] tokens of each row back."""
        self.written = self.written - count
        newest = self.start + self.written[:, None] - 1
        self.last = self.ids.gather(1, newest).squeeze(1)
        writers = self._columns["by_base"].gather(1, (self.written[:, None] - 1).clamp(min=0))
        self.last_by_base = writers.squeeze(1) & (self.written > 0)

    def end(self, ended: Tensor, count: Tensor, forwards: dict[str, int]) -> None:
        """Rows [B] that got `count` new tokens after so many forwards, and those that are over."""
        for side, total in forwards.items():
            self._forwards[side] = torch.where(count > 0, total, self._forwards[side])
        self.running = self.running & ~ended

    def stream(self, streamer: Any, start: int, stop: int) -> int:
        """Hand over the columns from `start` up to `stop`; `stop`."""
        text = self._text(stop)
        for column in range(start, stop):
            streamer.put(text[:, column].cpu())
        return max(start, stop)

    def sequences(self) -> Tensor:
        """Prompts and texts, padded at the right. -> [B, L + T]"""
        longest = int(self.written.max())
        return torch.cat([self.ids[:, : self.start], self._text(longest)], 1)

    def columns(self) -> dict[str, Any]:
        """The trace, as `RoutedOutput` names it: [B, T], and the forwards of each row."""
        longest = int(self.written.max())
        emitted = self._real(longest)
        columns: dict[str, Any] = {
            name: column[:, :longest] & emitted
            if column.dtype is torch.bool
            else column[:, :longest]
            for name, column in self._columns.items()
        }
        return {**columns, "emitted": emitted, "row_forwards": self._forwards}

    def _real(self, length: int) -> Tensor:
        places = torch.arange(length, device=self.written.device)[None]
        return places < self.written[:, None]

    def _text(self, length: int) -> Tensor:
        text = self.ids[:, self.start : self.start + length]
        return text.masked_fill(~self._real(length), self._pad)
