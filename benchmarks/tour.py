"""Mean and standard deviation over seeds of the tour's scores: `python benchmarks/tour.py RUN_FOLDER...`

for seed in 0 1 2; do hfcourse run bert/tour --seed $seed --output_dir runs/tour-$seed; done
python benchmarks/tour.py runs/tour-0 runs/tour-1 runs/tour-2
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path


def main() -> None:
    """Print a row a task; sd is that of a sample (n - 1)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    folders = parser.parse_args().runs
    if len(folders) < 2:
        parser.error("give the folders of two runs or more: one has no standard deviation")
    runs = [json.loads((folder / "metrics.json").read_text())["tasks"] for folder in folders]
    print("| task | metric | random start | pretrained start | pretrained better |\n|---|---|---|---|---|")
    for task in runs[0]:
        starts = {start: [run[task][start]["value"] for run in runs] for start in ("random", "pretrained")}
        cells = [f"{statistics.mean(found):.3f} ± {statistics.stdev(found):.3f}" for found in starts.values()]
        wins = sum(ours > other for ours, other in zip(starts["pretrained"], starts["random"], strict=True))
        print(f"| {task} | {runs[0][task]['random']['name']} | {' | '.join(cells)} | {wins} of {len(runs)} |")


if __name__ == "__main__":
    main()
