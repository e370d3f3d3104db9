"""What is left to do when a run has its scores: the model's card and the report."""

from __future__ import annotations

import os

from hfcourse.hub.card import write_card
from hfcourse.report import report
from hfcourse.run_folder import RunFolder


def finish(run: RunFolder) -> None:
    """Write the card and the page, print the table; one process of several does it."""
    if os.environ.get("RANK", "0") == "0":
        write_card(run)
        print(report([run.path]))
