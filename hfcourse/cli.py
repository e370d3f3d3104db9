"""The command line: one subcommand a verb, no logic of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hfcourse import __version__
from hfcourse.errors import ConfigError, HfcourseError, unknown

USAGE = """hfcourse: pretrain, fine-tune, prompt and judge language and speech models

  hfcourse run NAME [VARIANT ...] [--setting value ...]   run a recipe (bert/tour, bert/finetune topic, my/recipe.py)
       --output_dir DIR   the run folder (default runs/<recipe>-<variants>-<n>)
       --seed N           the seed
       --config FILE      settings saved by an earlier run, instead of NAME and VARIANTs
       --resume           go on from the newest good checkpoint
       --overwrite        replace the run that the folder holds
  hfcourse list                                           recipes and their variants
  hfcourse show NAME [VARIANT ...] [--setting value ...]  the resolved settings with their help; runs nothing
  hfcourse copy NAME DIR                                  copy a recipe for editing
  hfcourse suite NAME --model DIR [--tasks a,b]           fine-tune and judge a model on a suite (glue, pydocs)
  hfcourse suite fewshot --model DIR [--tasks a,b]        ask a model with zero, one and a few examples
  hfcourse predict RUN FILE [--out FILE]                  answer new rows with a finished run
  hfcourse extract --model M [--layers 3,6] AUDIO OUT     write the states of recordings to disk
  hfcourse align --model M AUDIO TRANSCRIPT OUT           cut long recordings into utterances of a known transcript
  hfcourse convert CHECKPOINT OUT [--config FILE]         a speech model of fairseq or s3prl as a folder to load
  hfcourse report RUN ... [--out FILE]                    one page and a table for one or several runs
  hfcourse --version
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: errors that a user can mend are one line on standard error and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_guarded(lambda: _dispatch(words)))


def run_recipe(file: str) -> None:
    """What a recipe calls when it is run as a script: the same as ``hfcourse run FILE ...``."""
    sys.exit(_guarded(lambda: _run([file, *sys.argv[1:]])))


def _guarded(action: Callable[[], None]) -> int:
    try:
        action()
        sys.stdout.flush()  # what is still in the buffer would meet the closed pipe after the last handler
    except HfcourseError as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a table went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _dispatch(words: list[str]) -> None:
    verbs = {
        "run": _run,
        "suite": _suite,
        "list": _list,
        "show": _show,
        "copy": _copy,
        "predict": _predict,
        "extract": _extract,
        "align": _align,
        "convert": _convert,
        "report": _report,
    }
    asked = words[1:] in (["-h"], ["--help"]) and words[0] not in {"extract", "align"}  # which show their settings
    if not words or words[0] in {"-h", "--help", "help"} or asked:
        print(USAGE, end="")
    elif words[0] == "--version":
        print(f"hfcourse {__version__}")
    elif words[0] not in verbs:
        raise ConfigError(unknown("command", words[0], verbs) + " (`hfcourse --help` shows all)")
    else:
        verbs[words[0]](words[1:])


def _run(words: list[str]) -> None:
    if {"-h", "--help"} & set(words):
        _show(words)
        return
    from hfcourse import recipe
    from hfcourse.engine import machine

    parsed = recipe.parse(words)
    machine.tune_allocator()
    recipe.start(*parsed)


def _suite(words: list[str]) -> None:
    if not words:
        raise ConfigError("usage: hfcourse suite NAME --model DIR [--settings ...]; NAME is glue, pydocs or fewshot")
    _run(["gpt/in_context", *words[1:]] if words[0] == "fewshot" else ["bert/suite", *words])


def _list(words: list[str]) -> None:
    if words:
        raise ConfigError("usage: hfcourse list")
    from hfcourse import recipe

    for one in recipe.every():
        print(f"{one.name:<20} {one.summary}")
        for name, summary in one.variants.items():
            print(f"  {name:<18} {summary}")


def _show(words: list[str]) -> None:
    from hfcourse import config as configs
    from hfcourse import recipe

    words = [word for word in words if word not in {"-h", "--help"}]
    found, variants, config, _ = recipe.parse(words)
    print(configs.commented_yaml(config, {"recipe": found.reference, "variant": list(variants)}), end="")


def _copy(words: list[str]) -> None:
    from hfcourse import recipe

    if len(words) != 2:
        raise ConfigError("usage: hfcourse copy NAME DIR")
    for path in recipe.copy(words[0], Path(words[1])):
        print(path)


def _predict(words: list[str]) -> None:
    words, out = _take_out(words)
    if len(words) != 2:
        raise ConfigError("usage: hfcourse predict RUN FILE [--out FILE]")
    from hfcourse.engine.predict import predict

    print(predict(Path(words[0]), Path(words[1]), out))


def _extract(words: list[str]) -> None:
    if _asks_help(words, "engine.extract", "ExtractConfig"):
        return
    if len(words) < 3 or any(word.startswith("--") for word in words[-2:]):
        raise ConfigError("usage: hfcourse extract --model M [--layers 3,6] [--dtype float32] [--strict] AUDIO OUT")
    from hfcourse.config import from_flags
    from hfcourse.engine.extract import ExtractConfig, extract

    audio, out = map(Path, words[-2:])
    print(f"{out}: {len(extract(from_flags(ExtractConfig, words[:-2]), audio, out))} recordings")


def _align(words: list[str]) -> None:
    if _asks_help(words, "engine.align", "AlignConfig"):
        return
    if len(words) < 4 or any(word.startswith("--") for word in words[-3:]):
        raise ConfigError("usage: hfcourse align --model M [--longest 15] [--strict] AUDIO TRANSCRIPT OUT")
    from hfcourse.config import from_flags
    from hfcourse.engine.align import AlignConfig, align

    audio, transcript, out = map(Path, words[-3:])
    segments = align(from_flags(AlignConfig, words[:-3]), audio, transcript, out)
    print(f"{out / 'segments.tsv'}: {len(segments)} utterances of {len({one.file for one in segments})} recordings")


def _asks_help(words: list[str], module: str, settings: str) -> bool:
    """Where help is asked for: print a command's settings, as `show` prints a recipe's."""
    if not {"-h", "--help"} & set(words):
        return False
    from importlib import import_module

    from hfcourse.config import commented_yaml

    print(commented_yaml(getattr(import_module(f"hfcourse.{module}"), settings)(model="M")), end="")
    return True


def _convert(words: list[str]) -> None:
    words, settings = _take_out(words, "--config")
    if len(words) != 2:
        raise ConfigError("usage: hfcourse convert CHECKPOINT OUT [--config FILE]")
    from hfcourse.hub.convert import convert

    found = convert(Path(words[0]), Path(words[1]), settings)
    print(f"{words[1]}: {found.kind}, as {found.model_class.__name__}")


def _report(words: list[str]) -> None:
    words, out = _take_out(words)
    if not words:
        raise ConfigError("usage: hfcourse report RUN ... [--out FILE]")
    from hfcourse.report import report

    print(report([Path(word) for word in words], out))


def _take_out(words: list[str], known: str = "--out") -> tuple[list[str], Path | None]:
    """Take ``--out FILE``, or another flag with a file, out of the words."""
    rest: list[str] = []
    out: str | None = None
    remaining = iter(words)
    for word in remaining:
        flag, equals, value = word.partition("=")
        if flag == known:
            out = value if equals else next(remaining, "")
            if not out:
                raise ConfigError(f"{known} needs a file")
        elif word.startswith("--"):
            raise ConfigError(unknown("flag", flag, [known]))
        else:
            rest.append(word)
    return rest, Path(out) if out else None
