"""The command ``evalsuite``: what was asked for is checked before anything is written."""

from __future__ import annotations

import atexit
import json
import os
import shlex
import signal
import sys
import threading
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer
from rich.console import Console

from evalsuite import __version__, registry
from evalsuite.commands import audit as audit_command
from evalsuite.commands import compare as compare_command
from evalsuite.commands import export as export_command
from evalsuite.commands import export_metrics as export_metrics_command
from evalsuite.commands import index as index_command
from evalsuite.commands import list as list_command
from evalsuite.commands import merge as merge_command
from evalsuite.commands import new as new_command
from evalsuite.commands import report as report_command
from evalsuite.commands import schema as schema_command
from evalsuite.commands import slurm as slurm_command
from evalsuite.commands import status as status_command
from evalsuite.commands import validate as validate_command
from evalsuite.commands._options import (
    DONE,
    INTERRUPTED,
    SOME_FAILED,
    WRONG_REQUEST,
    Address,
    AsJson,
    Backend,
    Cache,
    CacheGigabytes,
    Compile,
    DataRoot,
    Device,
    InProcess,
    MaxFailures,
    Memory,
    MemoryLimit,
    Out,
    Overrides,
    RetryFailed,
    ShardOf,
    TimeLimit,
    TrustCode,
    Workers,
)
from evalsuite.environment import wait_briefly
from evalsuite.errors import RequestError, one_line_warnings
from evalsuite.files import is_utf8
from evalsuite.isolation import reason_of

if TYPE_CHECKING:
    pass

app = typer.Typer(
    help="How reliable is a post-training-quantized vision network under shift?",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COMPLETION = "_EVALSUITE_COMPLETE"
"""Variable by which a shell asks what a line may go on with."""
_ASK_COMPLETION = {"--show-completion", "--install-completion"}
_NOT_WRITTEN = 120  # as Python ends where its last output cannot be written
_REASONS = 3  # of trials without a result that are said


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the status that the contract names."""
    wait_briefly()  # before anything imports torch
    one_line_warnings()
    _end_as_at_interrupt()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that cannot show a class's name shows its escapes
            stream.reconfigure(errors="backslashreplace")
    status = call(sys.argv[1:] if arguments is None else arguments)
    if all(thread is threading.current_thread() or thread.daemon for thread in threading.enumerate()):
        atexit._run_exitfuncs()  # not beside a thread that a plugin has left: they would wait for it
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        status = _NOT_WRITTEN
    # Not by dismantling the interpreter: a thread of a library's that asks for its lock meanwhile aborts the process.
    os._exit(status)


def _end_as_at_interrupt() -> None:
    """Let SIGTERM and SIGHUP, as schedulers send them, end the program as Ctrl-C does; a second one ends it at once."""
    chosen = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]

    def stop(number: int, frame: Any) -> None:
        for other in chosen:
            signal.signal(other, signal.SIG_DFL)
        interrupt = signal.getsignal(signal.SIGINT)
        if callable(interrupt):
            interrupt(signal.SIGINT, frame)
        raise KeyboardInterrupt  # also where a shell that runs this in the background has Ctrl-C ignored

    for number in chosen:  # not one that is ignored: nohup asks for that
        signal.signal(number, stop)


def call(arguments: list[str]) -> int:
    """Run the command line and return the exit status."""
    odd = [argument for argument in arguments if not is_utf8(argument)]
    if odd:  # it would be written to records and pages, and not every library opens such files
        return _refuse(f"{odd[0]!r}: expected names and values in UTF-8")
    try:
        status = typer.main.get_command(app).main(arguments or ["--help"], prog_name="evalsuite", standalone_mode=False)
    except RequestError as error:
        return _refuse(" ".join(str(error).split()))
    except (KeyboardInterrupt, click.exceptions.Abort):
        status = INTERRUPTED
    except (SystemExit, GeneratorExit) as error:
        if isinstance(error.__context__, BrokenPipeError):  # click's end where nobody reads on: `evalsuite list | head`
            return _NOT_WRITTEN
        # typer ends the program so when it has told the shell what fits, or how to ask.
        if _COMPLETION in os.environ or _ASK_COMPLETION.intersection(arguments[:1]):
            return error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else DONE
        # Else of a plugin: nothing here ends the program so.
        return _refuse(f"a plugin ended the program by {reason_of(error)}")
    except Exception as error:
        # typer carries its own copy of click's exceptions in some releases, so these are told by their form.
        if hasattr(error, "format_message"):
            return _refuse(" ".join(error.format_message().split()))
        if hasattr(error, "exit_code"):
            return int(error.exit_code)
        raise
    if status == INTERRUPTED:  # which typer may also return by itself
        print("interrupted; run the same command again to go on from here", file=sys.stderr)
    return status if isinstance(status, int) else DONE


def _refuse(message: str) -> int:
    print(f"evalsuite: {message}", file=sys.stderr)
    return WRONG_REQUEST


def _version(value: bool) -> None:
    if value:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Audit post-training quantization of vision networks under shift, with and without test-time adaptation."""


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="A registered study or a TOML file.")] = "quick",
    out: Out = None,
    workers: Workers = None,
    overrides: Overrides = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    cache: Cache = None,
    cache_gigabytes: CacheGigabytes = 20.0,
    time_limit: TimeLimit = 86_400.0,
    memory_limit: MemoryLimit = None,
    memory: Memory = None,
    in_process: InProcess = False,
    compile: Compile = False,
    shard: ShardOf = None,
    retry_failed: RetryFailed = True,
    max_failures: MaxFailures = 1.0,
    backend: Backend = "local",
    address: Address = None,
    trust: TrustCode = False,
    as_json: AsJson = False,
) -> int:
    """Run a study, resuming a run that exists, then report."""
    from evalsuite.running.harness import execute
    from evalsuite.study.shards import Shard

    part = None if shard is None else Shard.parse(shard)
    outcome = execute(
        study,
        out,
        workers,
        data_root=data_root,
        device=device,
        overrides=overrides or [],
        cache=cache,
        cache_gigabytes=cache_gigabytes,
        time_limit=time_limit,
        memory_limit=memory_limit,
        memory=memory,
        in_process=in_process,
        compile=compile,
        shard=None if part is None else (part.number, part.of),
        retry_failed=retry_failed,
        max_failures=max_failures,
        backend=backend,
        address=address,
        trust=trust,
        command=shlex.join(["evalsuite", *sys.argv[1:]]),
        console=Console(stderr=True, quiet=as_json),
    )
    page = registry.load("reports", "page")(outcome.folder) if outcome.done else None
    _say_outcome(outcome, page, as_json)
    if outcome.stopped:
        print(
            f"evalsuite: stopped: {outcome.stopped} (--max-failures); all that is finished is kept, "
            f"{outcome.folder / 'failures'} says why they failed; run the same command again to go on from here",
            file=sys.stderr,
        )
    return SOME_FAILED if outcome.failed else DONE


def _say_outcome(outcome: Any, page: Path | None, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**vars(outcome), "folder": str(outcome.folder), "page": str(page) if page else None}))
        return
    total = outcome.done + outcome.refused + outcome.failed
    print(f"{total} trials: {outcome.done} done, {outcome.refused} refused, {outcome.failed} failed", end="")
    print(f" ({outcome.reused} from an earlier call)" if outcome.reused else "", end="")
    print(f"; {outcome.left} have not been run" if outcome.left else "")
    if outcome.refused or outcome.failed:
        _say_reasons(outcome.folder)
    print(f"report: {page}" if page else f"nothing to report; see {outcome.folder / 'trials.parquet'} for the reasons")


def _say_reasons(folder: Path) -> None:
    """Print how many trials have no result for which reason, the most frequent ones first."""
    from evalsuite.isolation import printable
    from evalsuite.store import load

    trials = load(folder).trials
    trials = trials[trials["status"].isin(["refused", "failed"])]
    reasons = trials.groupby(["status", "reason"], sort=False).size().sort_values(ascending=False, kind="stable")
    for row in reasons.iloc[:_REASONS].reset_index(name="number").to_dict("records"):
        print(f"  {row['number']} {row['status']}: {printable(str(row['reason']), 300)}")
    if len(reasons) > _REASONS:
        print(f"  and {len(reasons) - _REASONS} more reasons: see the page, or trials.parquet")


app.command()(audit_command.audit)
app.command()(compare_command.compare)
app.command()(export_metrics_command.export_metrics)
app.command()(index_command.index)
app.command()(new_command.new)
app.command()(export_command.export)
app.command("list")(list_command.list_plugins)
app.command()(merge_command.merge)
app.command()(report_command.report)
app.command()(schema_command.schema)
app.command()(slurm_command.slurm)
app.command()(status_command.status)
app.command()(validate_command.validate)


@app.command()
def doctor(data_root: DataRoot = None, as_json: AsJson = False) -> int:
    """Show versions, devices and data found, what is broken and how to mend it."""
    from evalsuite.doctor import examine, together

    checks = examine(data_root)
    if as_json:
        print(json.dumps([vars(check) for check in checks], indent=2))
    else:
        for check in together(checks):
            print(f"{'ok     ' if check.ok else 'BROKEN ' if check.needed else 'absent '} {check.name}: {check.found}")
            if check.remedy:
                print(f"        -> {check.remedy}")
    return SOME_FAILED if any(check.needed and not check.ok for check in checks) else DONE
