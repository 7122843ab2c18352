"""The ``skoots`` command: its verbs, and how they fail."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
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
    tune,
    view,
)
from skoots.cli import import_config as import_old_config
from skoots.cli import import_model as import_old_model
from skoots.cli import list as list_parts
from skoots.cli.options import DEBUG, Debug, judge_paths
from skoots.errors import ECHO, SkootsError, Terminated, heard_signals, signal_of
from skoots.refusals import MEMORY, explained
from skoots.terminal import (
    NobodyReads,
    check_result,
    guarded,
    log_to_terminal,
    print_message,
    print_result,
    print_trace,
)

MENDABLE = 2  # exit status of a failure that the user can mend; the same as that of a mistyped option
STOPPED = 128  # and the number of the signal, as shells report them: 130 for Ctrl-C, 143 for SIGTERM
NOBODY_READS = STOPPED + 13  # as of any program whose output is cut off by `| head`, from SIGPIPE
LESS_MEMORY = {
    "train": "Take a smaller data.crop_size or train_settings.batch_size, or fewer "
    "train_settings.dataloader_workers.",
    "segment": "Take smaller tiles (--tile), or a smaller volume.",
    "evaluate": "Close other programs, or score fewer or smaller volumes.",
    "tune": "Close other programs, or tune on fewer volumes.",
    "skeletonize": "Take fewer --threads.",
    "plan": "Close other programs, or plan on fewer or smaller volumes.",
    "view": "Close other programs, or look at a smaller volume.",
}
LESS_MEMORY |= dict.fromkeys(("resume", "check", "preview"), LESS_MEMORY["train"])


class Verbs(typer.core.TyperGroup):
    """Runs a verb; a failure that the user can mend becomes one sentence, a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        with log_to_terminal():
            try:
                with signals_like_ctrl_c() as came:
                    return super().invoke(ctx)
            except KeyboardInterrupt as error:
                raise _stopped(ctx, signal_of(error)) from error
            except (typer.Exit, typer.Abort):
                raise
            except NobodyReads as enough:
                raise typer.Exit(NOBODY_READS) from enough
            except Exception as error:
                if came:  # libraries in C make another error of it
                    raise _stopped(ctx, came[0]) from error
                told = explained(error, LESS_MEMORY.get(ctx.invoked_subcommand, MEMORY))
                if told is None:
                    raise
                raise _end(ctx, str(told), MENDABLE) from error


@contextmanager
def signals_like_ctrl_c() -> Iterator[list[int]]:
    """Clean up where signals would end the process without a word, and once: a second signal, other than an
    echo of the first, ends it at once. Only a main thread can.

    Where Python cannot raise, in the callback of a weak reference for instance, it drops what a signal raises
    with a warning; then the signal is sent again.

    Yields:
        The numbers of the signals that have come.
    """

    came: list[int] = []
    began: float | None = None

    def terminate(signum: int, frame: FrameType | None) -> None:
        nonlocal began
        now = time.monotonic()
        if began is None:
            began = now
            came.append(signum)
            raise Terminated(signum)
        if now - began > ECHO:
            os._exit(STOPPED + signum)

    def again(dropped: sys.UnraisableHookArgs) -> None:
        nonlocal began
        if isinstance(dropped.exc_value, KeyboardInterrupt):
            began, number = None, signal_of(dropped.exc_value)
            threading.Timer(0.01, lambda: os.kill(os.getpid(), number)).start()
        else:
            hook(dropped)

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.signal(number, terminate) for number in heard_signals()}
    hook = sys.unraisablehook
    sys.unraisablehook = again
    try:
        yield came
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _stopped(context: Any, number: int) -> typer.Exit:
    by = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    return _end(context, f"stopped by {by}.", STOPPED + number)


def _end(context: Any, sentence: str, status: int) -> typer.Exit:
    if context.meta.get(DEBUG):
        print_trace()
    else:
        print_message(f"skoots: {sentence}")
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

        print_result(f"skoots {__version__}")
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
_add("tune", tune.tune, tune.EXAMPLES)
_add("inspect", inspect.inspect, inspect.EXAMPLES)
_add("publish", publish.publish, publish.EXAMPLES)
_add("skeletonize", skeletonize.skeletonize, skeletonize.EXAMPLES)
_add("check", check.check, check.EXAMPLES)
_add("preview", preview.preview, preview.EXAMPLES)
_add("list", list_parts.list_parts, list_parts.EXAMPLES)
_add("view", view.view, view.EXAMPLES)
_add("import", import_old_model.import_model, import_old_model.EXAMPLES)
_add("import-config", import_old_config.import_config, import_old_config.EXAMPLES)
_add("demo", demo.demo, demo.EXAMPLES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: words after ``skoots``; None takes those of the process.

    Returns:
        Exit status: 0 done, 2 a failure that the user can mend, 3 trained but a snapshot could not be
        written, 130 stopped by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP, 141 nobody reads what is printed.
    """
    status = _status(arguments)
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torch is imported only then, for it takes a second
        from skoots.training.distributed import is_one_of_several, leave

        if is_one_of_several():
            leave(status)
    return status


def _status(arguments: Sequence[str] | None) -> int:
    status = 0
    with guarded():
        try:
            try:
                app(args=None if arguments is None else list(arguments), prog_name="skoots")
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(end.code is not None)
            check_result()  # a help text may be one, too
        except NobodyReads:
            return status or NOBODY_READS
        except SkootsError as error:
            if status == 0:
                print_message(f"skoots: {error}")
            return status or MENDABLE
    return status
