"""Sides of a comparison that stay: processes that answer jobs in turn, one of them in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import venv
from pathlib import Path
from typing import Any


def environment(folder: Path, library: str, *, same_packages: bool = False) -> Path:
    """The interpreter of a library's environment, which is made where it is missing.

    torch comes from the environment that runs this, behind the packages of its own: so its own transformers wins,
    unless it is to have the `same_packages` as this one and bring only what is not here.
    """
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.is_file():
        import torch

        print(f"making {folder} for {library} ...", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        (own,) = folder.glob("lib/python*/site-packages")
        borrow = own / "borrowed.pth"
        if same_packages:
            borrow.write_text(f"{Path(torch.__file__).parents[1]}\n")
        subprocess.run([python, "-m", "pip", "install", "--quiet", library], check=True)
        borrow.write_text(f"{Path(torch.__file__).parents[1]}\n")
        ready.touch()
    return python.absolute()  # not resolved: the link's place tells Python which environment it is


class Worker:
    """One side in a process of its own: `script` of this folder, called with its name and `arguments`."""

    def __init__(self, name: str, python: Path, script: str, *arguments: str) -> None:
        root = Path(__file__).resolve().parents[1]
        settings = dict(os.environ, HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", PYTHONPATH=str(root))
        settings.setdefault("OMP_NUM_THREADS", "2")
        self.name, self.setup = name, ""
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (as long as the process)
        self.process = subprocess.Popen(
            [python, "-W", "ignore", root / "benchmarks" / script, name, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=settings,
        )

    def ask(self, **job: Any) -> Any:
        """The answer to one job."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            line = ""
        else:
            line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise SystemExit(f"{self.name} failed:\n{self.errors.read()[-3000:]}")
        answer = json.loads(line)
        self.setup = answer["setup"]
        return answer["result"]

    def close(self) -> None:
        """No more jobs."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
