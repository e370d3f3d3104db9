"""Around a run: what one process prepares for all, and what is left when the scores are there: card and report."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from hfcourse.engine import machine
from hfcourse.hub.card import write_card
from hfcourse.report import report
from hfcourse.run_folder import RunFolder


@contextmanager
def one_first() -> Iterator[None]:
    """With several processes, one goes through the block before the others: what it writes to a cache they find."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    with machine.processes().main_process_first():
        yield


def finish(run: RunFolder) -> None:
    """Write the card and the page, print the table; one process of several does it."""
    if run.is_main:
        write_card(run)
        print(report([run.path]))
