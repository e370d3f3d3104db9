"""SIGTERM and SIGINT become a request to stop at the next step boundary; a second one, later, stops at once."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType

_SAME = 1.0
"""Seconds within which signals are one: a scheduler tells every process, and a parent then tells its own."""


class StopSignals:
    """Within the block, the first signal only sets `received`; the handlers that were there return afterwards."""

    def __init__(self) -> None:
        self.received = 0
        self._at = 0.0
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.received:
            self.received, self._at = number, time.monotonic()
        elif time.monotonic() - self._at > _SAME:
            raise KeyboardInterrupt
