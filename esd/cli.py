"""The command line. Each command lives in ``esd/commands``; nothing heavy is imported until one runs."""

from __future__ import annotations

import inspect
import os
import sys

import typer

from esd import __version__
from esd.commands import bench as bench_command
from esd.commands import compare as compare_command
from esd.commands import completion
from esd.commands import doctor as doctor_command
from esd.commands import eval as eval_command
from esd.commands import export as export_command
from esd.commands import init as init_command
from esd.commands import launch as launch_command
from esd.commands import list as list_command
from esd.commands import report as report_command
from esd.commands import show as show_command
from esd.commands import submit as submit_command
from esd.commands import train as train_command
from esd.commands.leaving import be_heard, leave
from esd.commands.literal_help import LiteralCommand, LiteralGroup
from esd.commands.output import guarded
from esd.commands.running import EXIT_INTERRUPTED, silence, use_one_thread
from esd.errors import EXIT_FAILED, EXIT_USAGE
from esd.mpi.launch import belongs_to_a_job, die_with_parent, launched_rank, release_signals

STOPPABLE = ("train", "launch")  # commands that handle signals themselves
WITHOUT_DIRECTORY = ("show", "list")  # commands that work where the working directory was removed

app = typer.Typer(
    cls=LiteralGroup,
    help="Evolution strategies on MPI, for networks that keep learning after training.",
    epilog="Train on 4 ranks: mpirun -n 4 esd train. Exit codes: 0 done, 2 usage error, 75 stopped early (the same "
    "command resumes), 130 interrupted, 1 any other failure, also Ctrl-C under plain mpirun, which kills its ranks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command("train")(train_command.train)
app.command("launch", context_settings={"allow_interspersed_args": False})(launch_command.launch)
app.command("submit")(submit_command.submit)
app.command("eval")(eval_command.evaluate)
app.command("show")(show_command.show)
app.command("list")(list_command.list_names)
app.command("init")(init_command.init)
app.command("bench")(bench_command.bench)
app.command("export")(export_command.export)
app.command("compare")(compare_command.compare)
app.command("report", cls=report_command.ReportCommand)(report_command.report)
app.command("doctor")(doctor_command.doctor)


def _prepare(registered: typer.Typer) -> None:
    """Let help texts wrap at the terminal's width: typer keeps the line breaks of docstrings as they are."""
    for command in registered.registered_commands:
        text = inspect.cleandoc(command.help or getattr(command.callback, "__doc__", None) or "")
        paragraphs = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
        command.help = "\n\n".join(paragraphs)
        if not issubclass(command.cls or object, LiteralCommand):
            command.cls = LiteralCommand
    for group in registered.registered_groups:
        if group.typer_instance is not None:
            _prepare(group.typer_instance)


_prepare(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"esd {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_print_version, is_eager=True
    ),
) -> None:
    use_one_thread()
    if context.invoked_subcommand not in STOPPABLE:
        release_signals()
    if context.invoked_subcommand not in WITHOUT_DIRECTORY:
        try:
            os.getcwd()  # noqa: PTH109
        except FileNotFoundError:
            print(
                "esd: the working directory no longer exists; change to another one (cd)",
                file=sys.stderr,
            )
            raise typer.Exit(EXIT_USAGE) from None


def main() -> None:
    """Entry point of the console script.

    A wrong flag is told, and help is printed, by one rank only: the others are silent until their command begins.
    """
    if belongs_to_a_job():
        die_with_parent()  # before the imports of a command, which take a second: its launcher may be gone by then
    try:
        _run()
    except SystemExit as ending:
        if ending.code == EXIT_USAGE:
            be_heard()
        leave(ending.code)
        raise


def _run() -> None:
    with guarded():
        try:
            if completion.COMPLETE in os.environ:
                completion.complete(_call)
            elif launched_rank() == 0:
                _call()
            else:
                with silence():
                    _call()
        except SystemExit as ending:
            if _interrupted(ending.__context__):  # before or after a command's body
                raise SystemExit(EXIT_INTERRUPTED) from None
            raise


def _call() -> None:
    """Call the command; also as ``python -m esd`` it is named esd, for the scripts of shells."""
    try:
        app(prog_name="esd")
    except OSError as error:  # a home folder without a ~/.bashrc that could be written
        if completion.INSTALL not in sys.argv[1:]:
            raise
        what = f"{error.filename or 'the home folder'} can't be written ({error.strerror})"
        advice = "use --show-completion and save what it prints"
        print(f"esd: {completion.INSTALL}: {what}; {advice}", file=sys.stderr)
        raise SystemExit(EXIT_FAILED) from None


def _interrupted(error: BaseException | None) -> bool:
    """Whether typer ends because of Ctrl-C; older versions print a line themselves, and leave with 1."""
    if isinstance(error, typer.Exit) and isinstance(error.__cause__, KeyboardInterrupt):
        print("esd: interrupted", file=sys.stderr)
        return True
    return isinstance(error, typer.Abort)
