"""The soup of memory-mapped members, written straight into a model's parameters.

    live = LiveSoup(model, [Path("a"), Path("b")])
    live.write([Fraction(2, 5), Fraction(3, 5)])

The same jobs, kernel and rounding as a soup on disk, so a live soup is byte-equal to the exported
one in the parameters' dtype; no candidate of a search touches the disk. Parameters are written in
place, never replaced: compiled graphs and hooks that hold them stay right. The full sum is computed
anew each time, because steps from soup to soup drift.

Members that are adapters enter by the compiled kernel's loop over ranks or by rank concatenation
(`merge.concatenation`), with the same bytes; the choice is one of speed.

The caller resets key-value and prefix caches. Not promised: a usable model after `write` raised, or
survival if another process shortens a member's file.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from merge.checkpoint import TensorSpec
from merge.compat import FLOATS, derived
from merge.concatenation import Concatenation
from merge.errors import Code, Refused
from merge.jobs import Job, Kind, Source, assign, first_head
from merge.kernel import NAMES
from merge.lora import Tiles
from merge.mixer import Block, Mixer, Seen, block_size, blocks
from merge.plan import check_distinct, check_member, open_sources
from merge.ranges import BLOCK
from merge.readers import MappedReader, Order
from merge.recipe import check_weights, numerators
from merge.threads import cores, in_threads

_SAVED: Mapping[torch.dtype, str] = {
    **NAMES, torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.uint16: "U16",
    torch.int16: "I16", torch.uint32: "U32", torch.int32: "I32", torch.uint64: "U64",
    torch.int64: "I64",
}  # fmt: skip
"""What safetensors calls the dtypes that a soup may have."""


class LiveSoup:
    """Members that stay open for many weight vectors.

    model: holds a parameter or persistent buffer for every tensor of the members, by its name in
    the files, contiguous, of a float dtype or the members' own; on the CPU, CUDA or another
    accelerator. reference: the base that members which are adapters lie on. digests: content
    digests of the members where known.
    Raises Refused like `plan_soup`, `wrong-tensors`, `wrong-shapes` and `wrong-dtypes` where the
    model does not fit the members, and, having compared the bytes, `wrong-buffers` and
    `untied-head`.
    """

    def __init__(
        self,
        model: nn.Module,
        members: Sequence[Path],
        *,
        reference: Path | None = None,
        digests: Sequence[str] | None = None,
        threads: int | None = None,
        block: int = BLOCK,
    ) -> None:
        check_distinct(members)
        known: Sequence[str | None] = digests or [None] * len(members)
        self._sources = open_sources(members, known, reference)
        for source in self._sources:
            check_member(self._sources[0], source)
        self._targets, self._tied = _targets(model, self._sources)
        self._threads = threads or cores()
        self._size = block_size(block, self._threads, len(members))
        self._order, self._reader = Order(self._sources), MappedReader(self._sources)
        self._adapted = Concatenation(self._sources, self._order, self._reader, self._size)
        self._tiles = Tiles()
        self._seen: Seen = {}
        self._mixers, self._staged = dict[int, Mixer](), dict[int, Tensor]()
        even = self._jobs([1] * len(members))
        self._run([job for job in even if job.kind in (Kind.SAME, Kind.TIED)], 1)

    def write(self, weights: Sequence[Fraction], *, allow_negative: bool = False) -> None:
        """Make the model the soup with these weights, one per member, that sum to one.

        Raises Refused: `weights`; `non-finite`, after which the model is half written.
        """
        check_weights(weights, allow_negative=allow_negative)
        if len(weights) != len(self._sources):
            raise Refused(
                Code.WEIGHTS, "weights", f"{len(weights)} for {len(self._sources)} members",
                "give one weight per member",
            )  # fmt: skip
        whole, denominator = numerators(weights)
        jobs = self._jobs(whole)
        self._run([job for job in jobs if job.kind in (Kind.MIX, Kind.COPY)], denominator)

    def _jobs(self, whole: Sequence[int]) -> list[Job]:
        """Jobs whose outputs have the parameters' dtypes; tensors without a parameter dropped."""
        found = []
        for job in assign(self._sources, whole, 0, explicit=False, tied=self._tied):
            if job.out is None:
                found.append(job)
            elif job.out.name in self._targets:
                found.append(self._into(job, self._targets[job.out.name]))
        return found

    def _into(self, job: Job, target: Tensor) -> Job:
        """The job with the parameter's dtype as its output's."""
        if job.kind is Kind.SAME:
            return job
        out = job.out
        assert out is not None
        dtype = NAMES[target.dtype]
        first = job.terms[0]
        alone = len(job.terms) == 1 and first.spec.dtype == dtype
        alone = alone and not self._sources[first.source].adapts(first.spec.name)
        spec = TensorSpec(out.name, dtype, out.shape, "", 0, target.nbytes)
        return Job(Kind.COPY if alone else Kind.MIX, job.terms, spec)

    def _run(self, jobs: Sequence[Job], denominator: int) -> None:
        _wait_for_readers(self._targets.values())
        todo, taking = self._blocks(jobs), threading.Lock()
        numbers = iter(range(self._threads))
        stopped = threading.Event()

        def work() -> None:
            with taking:
                number = next(numbers)
            while not stopped.is_set():
                with taking:
                    block = next(todo, None)
                if block is None:
                    return
                self._do(number, block, denominator)

        in_threads(self._threads, work, stopped.set)

    def _blocks(self, jobs: Sequence[Job]) -> Iterator[Block]:
        """Those of adapted matrices hold whole rows."""
        for job in jobs:
            rows = self._rows(job)
            yield from blocks([job], rows * job.terms[0].spec.shape[1] if rows else self._size)

    def _rows(self, job: Job) -> int:
        """Rows of a block that is computed by concatenation, else 0."""
        if job.out is None or not self._adapted.rows(job):
            return 0
        return self._adapted.rows(job) if self._adapted.worthwhile(job) else 0

    def _do(self, number: int, block: Block, denominator: int) -> None:
        if block.job.out is None:
            self._compute(number, block, denominator, torch.empty(0, dtype=torch.uint8))
            return
        target = self._targets[block.job.out.name]
        part = target.view(-1)[block.start : block.start + block.count].view(torch.uint8)
        if part.device.type == "cpu":
            self._compute(number, block, denominator, part)
        else:
            staged = self._staging(number)[: len(part)]
            self._compute(number, block, denominator, staged)
            part.copy_(staged)  # returns when `staged` may be overwritten

    def _compute(self, number: int, block: Block, denominator: int, out: Tensor) -> None:
        """Put the block's bytes into `out` (uint8, in the processor's memory)."""
        if not (self._rows(block.job) and self._adapted.compute(block, denominator, out)):
            self._mixer(number).compute(block, denominator, out.numpy())

    def _mixer(self, number: int) -> Mixer:
        if number not in self._mixers:
            self._mixers[number] = Mixer(
                self._sources, self._order, self._reader, size=self._size,
                terms=max(2, len(self._sources)), tiles=self._tiles, seen=self._seen,
            )  # fmt: skip
        return self._mixers[number]

    def _staging(self, number: int) -> Tensor:
        """A thread's room for one block; new memory for each would cost more than the copy."""
        if number not in self._staged:
            self._staged[number] = torch.empty(self._size * 8, dtype=torch.uint8)
        return self._staged[number]


def _wait_for_readers(targets: Iterable[Tensor]) -> None:
    """Let devices finish what they were told to do with the old values, in whichever stream."""
    for device in {target.device for target in targets}:
        if device.type != "cpu":
            torch.accelerator.synchronize(device)


def _targets(model: nn.Module, sources: Sequence[Source]) -> tuple[Mapping[str, Tensor], bool]:
    """Storage of every tensor of the files in the model, and whether the model ties its head.

    Both must name the same tensors.
    """
    named = chain(model.named_parameters(), model.named_buffers())  # a tied one is named once
    state = {name: tensor.detach() for name, tensor in named}
    wanted = dict(sources[0].layout.tensors)
    head = first_head(sources)
    tied = head is None or head.name not in state
    if head is not None:
        wanted[head.name] = head
    for name, spec in wanted.items():
        if name in state:
            _check_fits(spec, state[name])
        elif not derived(spec) and spec is not head:
            raise Refused(Code.WRONG_TENSORS, name, "not in the model", "load the same model class")
    saved = set(model.state_dict(keep_vars=True))
    for name in sorted(set(state) & saved - set(wanted)):
        raise Refused(Code.WRONG_TENSORS, name, "in the model, not in the members", "tie or remove")
    return {name: state[name] for name in wanted if name in state}, tied


def _check_fits(spec: TensorSpec, target: Tensor) -> None:
    if tuple(target.shape) != spec.shape:
        raise Refused(
            Code.WRONG_SHAPES, spec.name, f"{list(target.shape)} in the model, {list(spec.shape)} "
            "in the members", "load the members' configuration",
        )  # fmt: skip
    if not target.is_contiguous():
        raise Refused(
            Code.WRONG_SHAPES, spec.name, "not contiguous in the model", "call contiguous()"
        )
    accelerator = torch.accelerator.current_accelerator()
    if target.device.type not in ("cpu", accelerator and accelerator.type):
        raise Refused(
            Code.WRONG_TENSORS, spec.name, f"on {target.device.type}, which is neither the CPU nor "
            "the accelerator of this torch", "move the model to one of them",
        )  # fmt: skip
    wanted = FLOATS if spec.dtype in FLOATS else {spec.dtype}
    if _SAVED.get(target.dtype) not in wanted:
        raise Refused(
            Code.WRONG_DTYPES, spec.name, f"{target.dtype} in the model, {spec.dtype} in the "
            "members", "load the model in a dtype of theirs",
        )  # fmt: skip
