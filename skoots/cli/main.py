"""The ``skoots`` command: its verbs, and how they fail."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import typer
import typer.core

from skoots.cli import (
    check,
    demo,
    evaluate,
    inspect,
    plan,
    preview,
    publish,
    resume,
    segment,
    skeletonize,
    train,
    view,
)
from skoots.cli import import_config as import_old_config
from skoots.cli import list as list_parts
from skoots.cli.console import log_to_stderr
from skoots.cli.options import DEBUG, Debug, judge_paths
from skoots.errors import SkootsError, Terminated, signal_of

MENDABLE = 2  # exit status of a failure that the user can mend; the same as that of a mistyped option
STOPPED = 128  # and the number of the signal: 130 for Ctrl-C, 143 for SIGTERM, as shells report them


class Verbs(typer.core.TyperGroup):
    """Runs a verb; a failure that the user can mend becomes one sentence, a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        with log_to_stderr():
            try:
                with signals_like_ctrl_c():
                    return super().invoke(ctx)
            except SkootsError as error:
                raise _end(ctx, str(error), MENDABLE) from error
            except KeyboardInterrupt as error:
                number = signal_of(error)
                by = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
                raise _end(ctx, f"stopped by {by}.", STOPPED + number) from error


@contextmanager
def signals_like_ctrl_c() -> Iterator[None]:
    """Clean up where SIGTERM and SIGUSR1 would end the process without a word. Only a main thread can.

    Where Python cannot raise, in the callback of a weak reference for instance, it drops what a signal raises
    with a warning; then the signal is sent again.
    """

    def terminate(signum: int, frame: FrameType | None) -> None:
        raise Terminated(signum)

    def again(dropped: sys.UnraisableHookArgs) -> None:
        if isinstance(dropped.exc_value, KeyboardInterrupt):
            number = signal_of(dropped.exc_value)
            threading.Timer(0.01, lambda: os.kill(os.getpid(), number)).start()
        else:
            hook(dropped)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]
    before = {number: signal.signal(number, terminate) for number in numbers}
    hook = sys.unraisablehook
    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(context: Any, sentence: str, status: int) -> typer.Exit:
    if context.meta.get(DEBUG):
        traceback.print_exc()
    else:
        typer.echo(f"skoots: {sentence}", err=True)
    return typer.Exit(status)


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help, the same in a terminal, a file and the documentation
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from skoots._version import __version__

        typer.echo(f"skoots {__version__}")
        raise typer.Exit


@app.callback()
def skoots(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Separate touching, curved and branching objects in 2D and 3D microscopy."""


def _add(verb: str, function: Callable[..., None], examples: Sequence[str], kind: type | None = None) -> None:
    # \b keeps the lines of a paragraph as they are
    epilog = "\n".join(["\b", "Examples:", *(f"  {example}" for example in examples)])
    app.command(verb, cls=kind, epilog=epilog)(judge_paths(function))


_add("plan", plan.plan, plan.EXAMPLES)
_add("train", train.train, train.EXAMPLES, train.TrainCommand)
_add("resume", resume.resume, resume.EXAMPLES)
_add("segment", segment.segment, segment.EXAMPLES)
_add("evaluate", evaluate.evaluate, evaluate.EXAMPLES)
_add("inspect", inspect.inspect, inspect.EXAMPLES)
_add("publish", publish.publish, publish.EXAMPLES)
_add("skeletonize", skeletonize.skeletonize, skeletonize.EXAMPLES)
_add("check", check.check, check.EXAMPLES)
_add("preview", preview.preview, preview.EXAMPLES)
_add("list", list_parts.list_parts, list_parts.EXAMPLES)
_add("view", view.view, view.EXAMPLES)
_add("import-config", import_old_config.import_config, import_old_config.EXAMPLES)
_add("demo", demo.demo, demo.EXAMPLES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: words after ``skoots``; None takes those of the process.

    Returns:
        Exit status: 0 done, 2 a failure that the user can mend, 3 trained but a snapshot could not be
        written, 130 stopped by Ctrl-C, 143 by SIGTERM.
    """
    status = _status(arguments)
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torch is imported only then, for it takes a second
        from skoots.training.distributed import is_one_of_several, leave

        if is_one_of_several():
            leave(status)
    return status


def _status(arguments: Sequence[str] | None) -> int:
    try:
        app(args=None if arguments is None else list(arguments), prog_name="skoots")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
