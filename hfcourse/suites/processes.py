"""Runs in processes of their own, forked from one that has imported what all of them need.

A fresh interpreter imports torch, transformers and datasets for many seconds; a fork has them at once, and like a fresh
process shares neither memory nor caches with the run before it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from hfcourse.errors import Interrupted

_NEEDED = (
    "torch",
    "transformers",
    "datasets",
    "peft",
    "accelerate",
    "hfcourse.engine.fit",
    "hfcourse.engine.finish",
    "hfcourse.report",
    "hfcourse.data.loading",
)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Worker:
    """Runs `hfcourse` again and again, one run at a time, each in a process of its own.

    `run` may be called from a thread, and `stop` from another. The process that runs are forked from is in a session of
    its own: Ctrl-C reaches whoever has this object, and a run gets one signal, by `stop`. It also gets one where its
    parents are gone.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        """`environment`: that of all its runs. Nothing is started before the first."""
        # Else a library that looks for GPUs while it is imported would leave them unusable for forks.
        self._environment = {**environment, "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
        self._server: subprocess.Popen[str] | None = None
        self._errors = tempfile.TemporaryDirectory(prefix="hfcourse-")
        self._stopped = False

    def run(self, arguments: Sequence[str]) -> tuple[int, str]:
        """``hfcourse ARGUMENTS`` from start to end.

        Returns:
            Exit code (of a run that a signal ended: less its number) and what was written to standard error.

        Raises:
            Interrupted: `stop` was called before it began.
        """
        said = Path(self._errors.name) / "stderr"
        said.write_text("")
        server = self._start()
        try:
            print(json.dumps([list(arguments), str(said)]), file=server.stdin, flush=True)
            code = int(_answer(server))
        except (OSError, EOFError):
            self._refuse_if_stopped()
            return server.wait() or 1, "the process that starts the runs has ended"
        return code, said.read_text(errors="replace")

    def stop(self) -> None:
        """Ask the run in progress to end, which writes a checkpoint first; none begins after it."""
        self._stopped = True
        if server := self._server:
            server.terminate()

    def close(self) -> None:
        """End the process that runs are forked from; there is none in progress."""
        self._leave()
        self._errors.cleanup()

    def _leave(self) -> None:
        """Let the server end, which it does when nobody can ask it any more."""
        if self._server:
            with contextlib.suppress(BrokenPipeError):
                self._server.communicate()
            self._server = None

    def _start(self) -> subprocess.Popen[str]:
        self._refuse_if_stopped()
        if self._server and self._server.poll() is not None:
            self._leave()
        if not self._server:
            self._server = subprocess.Popen(
                [sys.executable, "-m", __spec__.name],
                text=True,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        self._refuse_if_stopped()
        return self._server

    def _refuse_if_stopped(self) -> None:
        if self._stopped:
            raise Interrupted("stopped", signal.SIGTERM)


def _answer(server: subprocess.Popen[str]) -> str:
    assert server.stdout
    if not (line := server.stdout.readline()):
        raise EOFError
    return line


def environment(device: int, devices: int) -> dict[str, str]:
    """That of the runs of one of several devices: one GPU each, or an equal share of the cores.

    Args:
        device: its number, from 0.
        devices: how many there are; the runs of a single one have all GPUs and cores.
    """
    if devices == 1:
        return dict(os.environ)
    import torch

    gpus = torch.cuda.device_count()
    if gpus:
        allowed = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
        return {**os.environ, "CUDA_VISIBLE_DEVICES": allowed.split(",")[device % gpus]}
    return {**os.environ, "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // devices))}


class _Server:
    """Forks a run for each line of standard input, and answers with its exit code when it has ended."""

    def __init__(self) -> None:
        self._answers: TextIO = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what a library prints is no answer
        for name in _NEEDED:
            importlib.import_module(name)
        self._forks = _can_fork()
        self._run = 0
        signal.signal(signal.SIGTERM, self._stop)

    def serve(self) -> None:
        """Until there are no more lines."""
        while line := sys.stdin.readline():
            arguments, said = json.loads(line)
            code = self._code_of(arguments, said)
            with contextlib.suppress(BrokenPipeError):
                print(code, file=self._answers, flush=True)

    def _code_of(self, arguments: Sequence[str], said: str) -> int:
        self._run = self._forked(arguments, said) if self._forks else _fresh(arguments, said)
        watched = [0]
        while not (ended := os.waitpid(self._run, os.WNOHANG))[0]:
            if select.select(watched, [], [], 0.1)[0]:  # nothing is sent meanwhile: whoever asked is gone
                self._stop()
                watched = []
        self._run = 0
        return os.waitstatus_to_exitcode(ended[1])

    def _forked(self, arguments: Sequence[str], said: str) -> int:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # until somebody is there to hand it on to
        self._run = os.fork()
        if not self._run:
            self._answers.close()
            _become_run(said)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if not self._run:
            sys.argv[1:] = arguments
            runpy.run_module("hfcourse", run_name="__main__")  # and no further: it exits
        return self._run

    def _stop(self, *_: object) -> None:
        if not self._run:
            sys.exit(128 + signal.SIGTERM)
        with contextlib.suppress(ProcessLookupError):  # it has ended just now
            os.kill(self._run, signal.SIGTERM)


def _can_fork() -> bool:
    """Other systems' libraries do not bear it, nor does a GPU that somebody has looked at already."""
    if not sys.platform.startswith("linux"):
        return False
    import torch

    probe = os.fork()
    if not probe:
        os._exit(int(torch.cuda._is_in_bad_fork()))
    return os.waitstatus_to_exitcode(os.waitpid(probe, 0)[1]) == 0


def _fresh(arguments: Sequence[str], said: str) -> int:
    with Path(said).open("w") as errors:
        command = [sys.executable, "-m", "hfcourse", *arguments]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors).pid


def _become_run(said: str) -> None:
    """Signals as a new process has them; nothing to read, nothing to show, errors into a file."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    nothing = os.open(os.devnull, os.O_RDWR)
    errors = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for target, source in ((0, nothing), (1, nothing), (2, errors)):
        os.dup2(source, target)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


if __name__ == "__main__":
    _Server().serve()
