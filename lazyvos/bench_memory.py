"""What READMem costs: its offer as a share of a MiVOS frame, and against the published algorithm written down plainly."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lazyvos.backbones.base import Entry, Query
from lazyvos.bench import machine
from lazyvos.datasets.synthetic import SyntheticClip
from lazyvos.device import pick_device, pick_precision
from lazyvos.hub import load
from lazyvos.memory import FifoMemory, ReadMem
from lazyvos.memory.base import Readout
from lazyvos.memory.read import score_tiles
from lazyvos.plain_readmem import PlainReadMem, softmax_of_best
from lazyvos.tracker import Tracker
from lazyvos.types import Decision, InputError

REPEATS = 3


class Cost(NamedTuple):
    """Milliseconds on the wall clock and of this process (the sum over its threads)."""

    wall: float
    cpu: float


def bench_memory(
    *, net: Any = None, size: tuple[int, int] = (480, 854), slots: int = 20, rounds: int = 7, trials: int = 4,
    device: str | None = None, precision: str = "auto", seed: int = 0, note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:  # fmt: skip
    """Measure READMem on MiVOS with one object, the memory full, every frame offered (s_r = 1).

    Every offer runs to its end: the lower bound of similarity is off, because a refused frame costs the plain algorithm nothing.
    The machine may be busy, so whatever is compared is measured in turn, times are medians, and of wall and process time the
    one less flattering to us decides on a CPU (on a GPU the wall clock, after waiting for the device).

    Parameters
    ----------
    net: the network; default MiVOS with random weights.
    size: height and width of the generated frames; the network runs at that size.
    slots: N. FIFO gets one slot more, because READMem also reads the previous frame.
    rounds: frames measured once the memory is full.
    trials: how many of their offers are repeated by the plain algorithm.
    device, precision: as in :func:`lazyvos.build.make_tracker`.
    note: told what is being measured.

    Returns a plain dict. ``readmem_offer_over_frame``: an offer and what the read pays for it, in shares of a frame;
    ``plain_over_readmem``: a plain offer in units of ours; ``readmem_fps``, ``fifo_fps``: frames per second of predict and commit,
    and ``readmem_over_fifo`` (process time of a frame). Milliseconds are lists ``[wall, process]``: ``frame_ms``, ``fifo_frame_ms``,
    ``offer_ms``, ``read_ms`` and ``bare_read_ms`` (keeping the association or not; on a CPU on one thread; the least of many), and of the
    offers repeated ``repeated_ms`` and ``plain_ms``. ``bookkeeping_ms`` is the difference of the reads, in process time on a CPU.
    ``decisions`` were compared, ``decisions_differ`` did not agree, ``log_gram_difference`` is the largest difference of a log10|Γ|.
    ``machine``, ``precision``, ``size``, ``slots``, ``grid``, ``rounds`` say what was run.

    Raises :class:`InputError` for numbers of slots, rounds or trials that cannot be measured.
    """
    for name, value, least in (("slots", slots, 2), ("rounds", rounds, 2), ("trials", trials, 1)):
        if value < least:
            raise InputError(f"{name} is {value}; give {least} or more")
    where = pick_device(device)
    precision = pick_precision(precision, where)
    net = load("mivos", seed=seed, device=where) if net is None else net
    settings: dict[str, Any] = {"slots": slots, "every": 1, "lower_bound": -1.0}
    clip = SyntheticClip(seed=3, length=None, size=size, difficulty="easy")
    note(f"filling {slots} slots")
    memory, other = _Watched(where, **settings), FifoMemory(slots + 1, 1)
    ours, theirs = (Tracker(net, m, size=None, device=where, precision=precision) for m in (memory, other))
    for t in range(slots + 1):  # the network runs once for both
        ours.predict(clip.rendered(t).frame)
        if t == 0:
            ours.correct(mask=clip.mask(0))
        ours.commit()
        assert memory.entry is not None
        (other.offer if t else other.pin)(memory.entry, t)
    theirs.load_state({**ours.state(), "memory": other.state()})

    costs: dict[str, list[Cost]] = {name: [] for name in ("frame", "fifo", "read", "bare", "repeated", "plain")}
    differ, gap, bare = 0, 0.0, ReadMem(transition=None, **settings)
    assert memory.query is not None
    grid = list(memory.query.grid)
    memory.costs.clear()
    for number in range(rounds):
        note(f"frame {number + 1} of {rounds}")
        frame = clip.rendered(slots + 1 + number).frame
        predicted = _cost(lambda f=frame: ours.predict(f), where)[1]  # type: ignore[misc]
        state = memory.state()
        committed = _cost(ours.commit, where)[1]
        costs["frame"].append(Cost(predicted.wall + committed.wall, predicted.cpu + committed.cpu))
        costs["fifo"].append(_cost(lambda f=frame: (theirs.predict(f), theirs.commit()), where)[1])  # type: ignore[misc]
        query, entry = memory.query, memory.entry
        assert query is not None
        assert entry is not None
        bare.load_state(state)
        again = ReadMem(**settings)
        again.load_state(state)
        reads = [("read", again), ("bare", bare)]
        with _one_thread(where):
            for name, it in (*reads, *reads[::-1], *reads):
                costs[name].append(_cost(lambda m=it, q=query: m.read(q, (1,), net.top_k), where)[1])  # type: ignore[misc]
        if number < trials:
            plain, weights = plain_of(state, slots)
            keys = entry.key.detach().flatten(2).float()
            for _ in range(REPEATS):
                again.load_state(state)
                decision, cost = _cost(lambda m=again, e=entry: m.offer(e, e.t), where)  # type: ignore[misc]
                costs["repeated"].append(cost)
            same = copy(plain).offer(entry.t, keys, weights)
            single = {t: w.float() for t, w in weights.items()}
            costs["plain"].append(_cost(lambda p=plain, k=keys, w=single, t=entry.t: p.offer(t, k, w), where)[1])  # type: ignore[misc]
            differ += not agree(decision, same)
            gap = max(gap, log_gap(decision, same))
    frame_ms, fifo_ms, offer = _median(costs["frame"]), _median(costs["fifo"]), _median(memory.costs)
    again_ms, plain_ms = _median(costs["repeated"]), _median(costs["plain"])
    read, without = (Cost(*map(min, zip(*costs[name], strict=True))) for name in ("read", "bare"))
    only_wall = where.startswith("cuda")
    extra = max(0.0, read.wall - without.wall if only_wall else read.cpu - without.cpu)
    shares = [(a + extra) / b for a, b in zip(offer, frame_ms, strict=True)]
    times = [a / b for a, b in zip(plain_ms, again_ms, strict=True)]
    return {
        "machine": machine(where), "precision": precision, "size": list(size), "grid": grid, "slots": slots, "rounds": rounds,
        "frame_ms": list(frame_ms), "fifo_frame_ms": list(fifo_ms), "offer_ms": list(offer), "read_ms": list(read), "bare_read_ms": list(without),
        "bookkeeping_ms": extra, "repeated_ms": list(again_ms), "plain_ms": list(plain_ms),
        "decisions": len(costs["plain"]), "decisions_differ": differ, "log_gram_difference": gap,
        "readmem_fps": 1000 / frame_ms.wall, "fifo_fps": 1000 / fifo_ms.wall, "readmem_over_fifo": fifo_ms[not only_wall] / frame_ms[not only_wall],
        "readmem_offer_over_frame": shares[0] if only_wall else max(shares), "plain_over_readmem": times[0] if only_wall else min(times),
    }  # fmt: skip


class _Watched(ReadMem):
    """READMem that times its offers and keeps what the last read and offer were given."""

    def __init__(self, device: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.device = device
        self.costs: list[Cost] = []
        self.query: Query | None = None
        self.entry: Entry | None = None

    def read(self, query: Query, objects: tuple[int, ...], top_k: int | None) -> Readout:
        self.query = query
        return super().read(query, objects, top_k)

    def offer(self, entry: Entry, clock: int, *, force: bool = False) -> Decision:
        self.entry = entry
        decision, cost = _cost(lambda: ReadMem.offer(self, entry, clock, force=force), self.device)
        self.costs.append(cost)
        return decision

    def pin(self, entry: Entry, clock: int) -> Decision:
        self.entry = entry
        return super().pin(entry, clock)


def plain_of(state: dict[str, Any], slots: int) -> tuple[PlainReadMem, dict[int, Tensor]]:
    """The plain algorithm with what a :class:`ReadMem` (``state()``, one object, s_r = 1, no lower bound) holds, and W of its last read.

    The scores under W are computed as the read did, so that both see the same positions. W is float64: in float32 the softmax makes
    scores equal that are not, and the largest of a column is then a matter of taste.
    """
    bank, last = state["bank"], state["last"]
    place = {slot: i for i, slot in enumerate(bank["slots"])}
    plain = PlainReadMem(slots, 1, -1.0)
    regular = [place[slot] for slot in state["regular"]]
    plain.frames = [bank["frames"][i] for i in regular]
    plain.keys = [bank["key"][:, i].transpose(1, 2).float().contiguous() for i in regular]
    plain.gram = state["gram"].numpy().copy()
    read = [place[slot] for slot in last["kept"][0]["slots"]]
    query, area = last["address"], last["address"].shape[1]
    blocks: dict[int, list[Tensor]] = {i: [] for i in regular}
    for _, scores in score_tiles(bank["address"][0, read].flatten(0, 1).float(), query):
        weights = softmax_of_best(scores[:, : len(read) * area].T.double(), last["top_k"])
        for i, block in zip(read, weights.split(area, 0), strict=True):
            if i in blocks:
                blocks[i].append(block)
    return plain, {bank["frames"][i]: torch.cat(parts, 1).unsqueeze(0) for i, parts in blocks.items()}


def agree(one: Decision, other: Decision) -> bool:
    """Do both keep (refuse) the frame for the same reason and at the price of the same entry?"""
    return (one.kept, one.reason, one.slot, one.replaced) == (other.kept, other.reason, other.slot, other.replaced)


def log_gap(one: Decision, other: Decision) -> float:
    """Largest difference of log10|Γ|, before and after."""
    pairs = ((one.log_gram_before, other.log_gram_before), (one.log_gram_after, other.log_gram_after))
    return max(0.0 if a == b else abs((a or 0.0) - (b or 0.0)) for a, b in pairs)


def _cost(run: Callable[[], Any], device: str) -> tuple[Any, Cost]:
    """Result and cost; waits for a GPU before and after."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    wait()
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    wait()
    return result, Cost((time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3)


@contextmanager
def _one_thread(device: str) -> Iterator[None]:
    """On a CPU: small differences vanish in what threads wait for one another on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if device.startswith("cuda") else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _median(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(values) for values in zip(*costs, strict=True)))
