"""The page of the tour: each task learned from a pretrained and from a random start, and what the numbers say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hfcourse.report import tables
from hfcourse.report.constant import constant
from hfcourse.report.page import Plots, environment, task_plots, write
from hfcourse.report.runs import Run, Score
from hfcourse.report.text import aligned, duration, lower_is_better, show, signed

if TYPE_CHECKING:
    from hfcourse.run_folder import RunFolder

PRETRAINED, RANDOM, CORPUS = range(3)
"""Colours of the two starts and of the pretraining itself."""


@dataclass(frozen=True)
class Stop:
    """One task of the tour."""

    name: str
    pretrained: Run
    random: Run

    @property
    def metric(self) -> str:
        return self.pretrained.metric or self.random.metric

    @cached_property
    def split(self) -> str:
        """The split that the starts are compared on: test, or what comes nearest to it."""
        both = [split for split in self.pretrained.splits if split in self.random.splits]
        return both[0] if both else ""

    @cached_property
    def scores(self) -> tuple[Score | None, Score | None]:
        """*The* score of the pretrained and of the random start."""
        return self.pretrained.main_score(self.split), self.random.main_score(self.split)

    @cached_property
    def pair(self) -> tables.Pair | None:
        return tables.compare(self.pretrained, self.random, self.split) if self.split else None

    @cached_property
    def baseline(self) -> float | None:
        """Score of one and the same answer to everything."""
        score = self.scores[0]
        if score is None:
            return None
        return constant(score.name, self.pretrained.kind, self.pretrained.answers.get(self.split, ()), score.value)

    @property
    def gain(self) -> float | None:
        """How much better the pretrained start scores; below 0 if the random one is better."""
        ours, other = self.scores
        if ours is None or other is None:
            return None
        return (ours.value - other.value) * (-1 if lower_is_better(self.metric) else 1)

    @property
    def winner(self) -> str:
        if self.gain is None:
            return "–"
        if self.gain == 0:
            return "neither"
        name = "pretrained" if self.gain > 0 else "random"
        return name if self.pair and self.pair.difference.certain else f"{name}, not clearly"

    @cached_property
    def speed(self) -> tuple[float, int | None, int] | None:
        """(lowest smoothed training loss of the random start, step at which the pretrained one is as low or None,
        the random start's own step).
        """
        losses, ours = _smoothed(self.random), _smoothed(self.pretrained)
        if not losses or not ours:
            return None
        level, own = min(losses)
        return level, min((step for loss, step in ours if loss <= level), default=None), own

    @property
    def faster(self) -> bool:
        """Whether the pretrained start is as low as the random one ever gets, in fewer steps."""
        return self.speed is not None and self.speed[1] is not None and self.speed[1] < self.speed[2]

    @property
    def others(self) -> list[str]:
        """Settings in which the two starts differ."""
        return [row.key for row in tables.settings([self.pretrained, self.random]) if row.differs]

    @property
    def story(self) -> str:
        """What the curves and the score of this task say."""
        return " ".join(filter(None, [self._about_speed(), self._about_losses(), self._about_score()]))

    def _about_speed(self) -> str:
        if self.speed is None:
            return "There is no training loss of both starts to compare."
        level, reached, own = self.speed
        lowest = f"the random start's lowest training loss ({show(level)}, step {own:,}; smoothed)"
        if reached is None:
            return f"The pretrained start's training loss never gets as low as {lowest}."
        if reached >= own:
            return f"The pretrained start needs {reached:,} steps to {lowest}: here the loss does not fall faster."
        return f"The pretrained start is below {lowest} at step {reached:,} already."

    def _about_losses(self) -> str:
        both = [_best_loss(run) for run in (self.pretrained, self.random)]
        if None in both:
            return ""
        texts = [f"{show(loss)} on dev" for loss in both]
        return f"The lowest losses are {texts[0]} for the pretrained and {texts[1]} for the random start."

    def _about_score(self) -> str:
        ours, other = self.scores
        if ours is None or other is None:
            return "The scores cannot be compared: a run is not finished."
        start = f"On {self.split} the pretrained start scores {show(ours.value)} in {self.metric}, the random one \
{show(other.value)}"
        if self.pair is None:
            return f"{start}."
        bounds = self.pair.difference
        verdict = {"pretrained": "the pretrained start generalises better", "random": "the random start is better"}
        end = verdict.get(self.winner, "the test examples are too few to call one better")
        return f"{start}: a difference of {signed(bounds.value)} (95 % interval {signed(bounds.low)} to \
{signed(bounds.high)}), so {end}."


def tour(
    groups: Mapping[str, Mapping[str, RunFolder | Path]], out: Path, *, pretrain: RunFolder | Path | None = None
) -> str:
    """See `hfcourse.report.tour_report`."""
    stops = [
        Stop(name, Run.read(runs["pretrained"], "pretrained start"), Run.read(runs["random"], "random start"))
        for name, runs in groups.items()
    ]
    corpus = Run.read(pretrain, "pretraining") if pretrain is not None else None
    lead = summary(stops)
    html = environment().get_template("tour.html.j2").render(
        title="Pretrained against random start",
        lead=lead,
        stops=stops,
        plots=[_plots(stop) for stop in stops],
        corpus=corpus,
        corpus_plots=task_plots(corpus.task, [(CORPUS, corpus)]) if corpus else None,
        corpus_facts=tables.facts(corpus) if corpus else {},
        facts=tables.facts(stops[0].pretrained) if stops else {},
        seconds=_seconds(stops, corpus),
        lows=[_ends(stop) for stop in stops],
    )  # fmt: skip
    write(html, Path(out))
    return "\n\n".join([_table(stops), *lead, f"report: {out}"])


def summary(stops: Sequence[Stop]) -> list[str]:
    """The whole tour in a few sentences, as the numbers have it."""
    known = [stop for stop in stops if stop.gain is not None]
    if not known:
        return ["No task has scores from both starts yet."]
    won = [stop for stop in known if (stop.gain or 0) > 0]
    clear = [stop for stop in won if stop.pair and stop.pair.difference.certain]
    fast = [stop for stop in known if stop.faster]
    numbers = (
        f"The pretrained start scores better on {len(won)} of {len(known)} tasks; on {len(clear)} of them the 95 % \
interval of the difference leaves out 0. On {len(fast)} of {len(known)} its training loss is as low as the random \
start's ever gets, in fewer steps{_shares(fast)}."
    )
    if len(won) == len(fast) == len(known):
        lesson = "That is the lesson on self-supervised learning: a model that has read plain text starts nearer to \
what a task needs, so its loss falls faster, and it generalises better to text it has not seen."
    elif not won:
        lesson = "Here pretraining did not help: the random start is at least as good on every task. More or other \
pretraining text, or more pretraining steps, may change that."
    else:
        lost = ", ".join(stop.name for stop in known if stop not in won or stop not in fast)
        lesson = f"The lesson on self-supervised learning is that the loss falls faster and the model generalises \
better. These runs bear it out only in part: not both hold on {lost}."
    return [numbers, lesson]


def _shares(stops: Sequence[Stop]) -> str:
    shares = sorted(100 * (stop.speed[1] or 0) / stop.speed[2] for stop in stops if stop.speed)
    if not shares:
        return ""
    span = f"{shares[0]:.0f} %" if round(shares[0]) == round(shares[-1]) else f"{shares[0]:.0f} to {shares[-1]:.0f} %"
    return f" ({span} of the steps that the random start takes)"


def _smoothed(run: Run) -> list[tuple[float, int]]:
    """(mean training loss over a fifth of the log, step at its end): single batches jump too much to compare."""
    lines = [(float(line["loss"]), int(line["step"])) for line in run.train_log if "loss" in line]
    width = max(1, len(lines) // 5)
    return [
        (sum(loss for loss, _ in lines[end - width : end]) / width, lines[end - 1][1])
        for end in range(width, len(lines) + 1)
    ]


def _best_loss(run: Run) -> float | None:
    return min((float(line["loss"]) for line in run.dev_log if "loss" in line), default=None)


def _plots(stop: Stop) -> Plots:
    return task_plots(stop.name, [(PRETRAINED, stop.pretrained), (RANDOM, stop.random)], halves=True)


def _ends(stop: Stop) -> tuple[float, float]:
    """Ends of the axis on which both intervals of a task are drawn: from 0, or from the lowest, to the highest."""
    bounds = [score.interval for score in stop.scores if score is not None and score.interval is not None]
    values = [score.value for score in stop.scores if score is not None]
    high = max([*values, *(b.high for b in bounds), 0.0])
    return min([*values, *(b.low for b in bounds), 0.0]), high * 1.03 or 1.0


def _seconds(stops: Sequence[Stop], corpus: Run | None) -> str:
    runs = [run for stop in stops for run in (stop.pretrained, stop.random)] + ([corpus] if corpus else [])
    return duration(sum(float(run.metrics.get("wall_seconds") or 0) for run in runs))


def _table(stops: Sequence[Stop]) -> str:
    rows = [["task", "split", "score", "constant", "random", "pretrained", "difference", "95 % interval", "better"]]
    for stop in stops:
        ours, other = (show(score.value) if score else "–" for score in stop.scores)
        found = stop.pair.difference if stop.pair else None
        bounds = f"{signed(found.low)} to {signed(found.high)}" if found else "–"
        cells = [show(stop.baseline), other, ours, signed(found.value) if found else "–", bounds, stop.winner]
        rows.append([stop.name, stop.split or "–", stop.metric or "–", *cells])
    return aligned(rows)
