"""A thread that runs a bounded number of items ahead of whoever uses them."""
from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any


class Prefetch(Iterator[Any]):
    """Run an iterator in a thread, at most `depth` items ahead of the consumer.

    Args:
        items: the iterator; it is advanced, and closed where it is a generator, in the thread.
        depth: most items that are ready and not yet taken, at least 1.
        live: drop the oldest waiting item instead of holding the producer back (cameras).

    Attributes:
        dropped: number of items a live source lost because the consumer was slow.

    An exception of the iterator is raised again in the consumer, after the items before it. The thread ends when
    the iterator ends, at `close()`, or when this object is thrown away.
    """

    def __init__(self, items: Iterator[Any], depth: int, live: bool = False) -> None:
        if depth < 1:
            raise ValueError(f"depth is {depth}; give 1 or more")
        self._state = _Shared(items, depth, live)
        threading.Thread(target=_produce, args=(self._state,), name="lazyvos-prefetch", daemon=True).start()
        self._stop = weakref.finalize(self, self._state.stop)

    @property
    def dropped(self) -> int:
        return self._state.dropped

    def __iter__(self) -> Prefetch:
        return self

    def __next__(self) -> Any:
        state = self._state
        with state.changed:
            while not state.ready and not state.ended:
                state.changed.wait()
            if state.ready:
                item = state.ready.popleft()
                state.changed.notify_all()
                return item
            error, state.error = state.error, None
        raise error if error is not None else StopIteration

    def close(self) -> None:
        """Stop the thread; nothing more is handed out."""
        self._stop()


class _Shared:
    """What the consumer and the producing thread share; it does not point at the consumer."""

    def __init__(self, items: Iterator[Any], depth: int, live: bool) -> None:
        self.items, self.depth, self.live = items, depth, live
        self.ready: deque[Any] = deque()
        self.changed = threading.Condition()
        self.ended = False
        self.error: BaseException | None = None
        self.dropped = 0

    def stop(self) -> None:
        with self.changed:
            self.ended = True
            self.ready.clear()
            self.changed.notify_all()


def _produce(state: _Shared) -> None:
    error: BaseException | None = None
    try:
        while True:
            with state.changed:
                while not state.ended and not state.live and len(state.ready) >= state.depth:
                    state.changed.wait()
                if state.ended:
                    return
            item = next(state.items)
            with state.changed:
                if state.ended:
                    return
                if len(state.ready) >= state.depth:
                    state.ready.popleft()
                    state.dropped += 1
                state.ready.append(item)
                state.changed.notify_all()
    except StopIteration:
        pass
    except BaseException as caught:
        error = caught
    finally:
        close = getattr(state.items, "close", None)
        if close is not None:
            close()
        with state.changed:
            state.error, state.ended = error, True
            state.changed.notify_all()
