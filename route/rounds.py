"""Writing and measuring setting after setting, each kept under a name that fixes what it gives.

A *round* is one setting on one set of prompts. Whoever calibrates again with the same models,
prompts and settings is given back what was kept, so a calibration that was killed goes on where it
was, and its result is the same as if it had never stopped.

What a round wrote depends on it alone; what its texts are worth also on the yardstick, which the
first round of a calibration sets. So measures are kept with the name of theirs, and texts that were
measured by another one are measured again, never written again.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from .bootstrap import Values
from .measured import Measured, Plan
from .sampling import Pair, Written, decode, write
from .semantic import Encoder, HiddenStates
from .vocab import read_vocabulary
from .yardstick import Scorer, Yardstick, usual_words

Record = dict[str, Any]
"""One round as JSON values."""
#: (rounds done, rounds in all, what was done)
Progress = Callable[[int, int, str], None]

_VERSION = 2  # of what is counted and measured in a round
_VECTORS = ("likelihood", "base_tokens", "asked", "base_asked", "tokens", "doubt")


@dataclass(frozen=True)
class Ruler:
    """How texts are judged, and the names that are published for it."""

    quality: Scorer | None = None
    quality_name: str = "mean log-probability per token under the aligned model, nats"
    encoder: Encoder | None = None
    """None: hidden states of the aligned model."""
    encoder_name: str = "the aligned model's last hidden states, mean over the text, centred"


@dataclass(frozen=True)
class Store:
    """Rounds that are known by name, and what to do with a new one."""

    known: Callable[[str], Record | None] = lambda name: None
    keep: Callable[[str, Record], None] = lambda name, record: None


@dataclass(frozen=True)
class _Kept:
    """A record as it was read."""

    written: Written
    values: Mapping[str, Values]
    by: str | None
    """The name of the yardstick; None for a trial, which is not measured."""


class Rounds:
    """Rounds of one pair. The first must be the aligned model alone: it sets the yardstick."""

    def __init__(
        self, pair: Pair, ruler: Ruler, store: Store, progress: Progress | None, total: int
    ) -> None:
        self.pair, self.ruler, self._store = pair, ruler, store
        self._progress, self._total, self._done = progress, total, 0
        self._yardstick: Yardstick | None = None

    def run(self, prompts: Sequence[str], plan: Plan, **changes: Any) -> Measured:
        """One round; `changes` are to the pair's fields for this one.

        A plan of kind "trial" is only written: its signal, or its cost, is what counts.
        """
        pair = replace(self.pair, **changes)
        if plan.prompt_format is not None:
            config = replace(pair.config, prompt_format=plan.prompt_format)
            pair = replace(pair, config=config)
        name = self._name(pair, prompts, plan)
        kept = self._read(name)
        written = write(pair, prompts, plan.way) if kept is None else kept.written
        by = self._measure_by(written).name if plan.kind != "trial" else None
        values = kept.values if kept and kept.by == by else self._new(name, prompts, plan, written)
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, max(self._total, self._done), plan.name)
        return Measured(plan, written, values)

    def _new(
        self, name: str, prompts: Sequence[str], plan: Plan, written: Written
    ) -> Mapping[str, Values]:
        """Measure what was written, and keep both."""
        trial, yardstick = plan.kind == "trial", self._measure_by(written)
        values = {} if trial else yardstick.values(prompts, written)
        plain = {name: value.tolist() for name, value in values.items()}
        by = None if trial else yardstick.name
        self._store.keep(name, {"written": _to_plain(written), "values": plain, "yardstick": by})
        return values

    def _read(self, name: str) -> _Kept | None:
        """A kept round; None where there is none that can be read."""
        record = self._store.known(name)
        if record is None:
            return None
        try:
            written = _from_plain(record["written"], self.pair.tokenizer)
            values = {str(key): np.asarray(v, np.float64) for key, v in record["values"].items()}
            return _Kept(written, values, record["yardstick"])
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def yardstick(self) -> Yardstick:
        """What the first round has set. Raises ValueError before it."""
        if self._yardstick is None:
            raise ValueError("nothing was written yet that could set the yardstick")
        return self._yardstick

    def _measure_by(self, written: Written) -> Yardstick:
        """The yardstick; set by `written` where that is the first."""
        if self._yardstick is None:
            pair, ruler = self.pair, self.ruler
            reference = [text for texts in written.texts for text in texts]
            named = [reference, ruler.quality_name, ruler.encoder_name]
            self._yardstick = Yardstick(
                name=_digest(named),
                words=usual_words(written),
                vocabulary=read_vocabulary(pair.tokenizer).size,
                encoder=ruler.encoder or HiddenStates(pair.aligned, pair.tokenizer, reference),
                scorer=ruler.quality,
            )
        return self._yardstick

    def _name(self, pair: Pair, prompts: Sequence[str], plan: Plan) -> str:
        """By everything that the texts depend on, and whether they are to be measured."""
        config = pair.config
        pins = [asdict(config.base), asdict(config.aligned), config.vocabulary.digest]
        settings = [pair.samples, pair.max_new_tokens, pair.seed, pair.batch_rows, pair.execution]
        rules = [config.prompt_format, config.aligned_prefix, config.content_reads]
        if plan.way.aligned_alone:
            rules = []
        texts = [pins, settings, rules, asdict(plan.way), list(prompts)]
        return _digest([_VERSION, *texts, plan.kind == "trial"])


def _digest(named: list[Any]) -> str:
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _to_plain(written: Written) -> Record:
    """JSON values; the texts follow from their tokens."""
    plain: Record = {name: getattr(written, name).tolist() for name in _VECTORS}
    flags = "".join(str(int(flag)) for flag in written.content.tolist())
    counts = {"steps": written.steps, "forwards": written.forwards}
    return {**plain, **counts, "content": flags, "ids": written.ids}


def _from_plain(plain: Mapping[str, Any], tokenizer: Any) -> Written:
    """The inverse. Raises KeyError, TypeError or ValueError for what is none."""
    vectors = {name: torch.tensor(plain[name], dtype=torch.double) for name in _VECTORS}
    return Written(
        ids=plain["ids"],
        texts=decode(tokenizer, plain["ids"]),
        steps=int(plain["steps"]),
        forwards=int(plain["forwards"]),
        content=torch.tensor([flag == "1" for flag in plain["content"]], dtype=torch.bool),
        **vectors,
    )
