"""``evalsuite audit``: a verdict on a new PTQ method."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from evalsuite import registry
from evalsuite.commands._options import (
    DONE,
    SOME_FAILED,
    AsJson,
    Cache,
    CacheGigabytes,
    DataRoot,
    Device,
    InProcess,
    Memory,
    MemoryLimit,
    Out,
    Overrides,
    TimeLimit,
    TrustCode,
    names,
)

if TYPE_CHECKING:
    from evalsuite import targets
    from evalsuite.audit import Audited
    from evalsuite.running.options import RunOptions

Target = Annotated[
    str,
    typer.Argument(
        help="package.module:Class, path.py:Class, an installed quantizer's name; or a network: path.onnx, path.pt2, "
        "path.safetensors, path.py:function or path.py:module."
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", metavar="NAME", help="A task in place of the profile's; several times for several."),
]
TaskOptions = Annotated[
    list[str] | None,
    typer.Option("--task-option", metavar="KEY=VALUE", help="An option of the tasks, for example images=photos."),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="METHOD.KEY=VALUE", help="target.KEY=VALUE or RIVAL.KEY=VALUE, for example target.steps=20."
    ),
]
Against = Annotated[
    str | None, typer.Option(metavar="NAME,...", help="Quantizers to compare with, in place of the profile's.")
]
Bits = Annotated[
    str | None, typer.Option(metavar="W4A4,...", help="Bit widths to audit at, in place of the profile's.")
]
Profile = Annotated[
    str,
    typer.Option(
        help="quick (minutes), standard (an hour or so), full (a night or more), another study or a TOML file: all "
        "that is asked, but for the target."
    ),
]
BaselinesFrom = Annotated[
    Path | None, typer.Option("--baselines", metavar="RUN", help="An earlier run whose records of rivals are taken.")
]
FailIf = Annotated[
    list[str] | None,
    typer.Option("--fail-if", metavar="'NAME > NUMBER'", help="Exit with status 1 if so: worst_class_drop > 5."),
]


def audit(
    target: Target,
    task: Tasks = None,
    against: Against = None,
    profile: Profile = "quick",
    bits: Bits = None,
    option: Options = None,
    task_option: TaskOptions = None,
    overrides: Overrides = None,
    baselines: BaselinesFrom = None,
    fail_if: FailIf = None,
    out: Out = None,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes; 0 is one a core, or a GPU.")] = 0,
    data_root: DataRoot = None,
    device: Device = "auto",
    cache: Cache = None,
    cache_gigabytes: CacheGigabytes = 20.0,
    time_limit: TimeLimit = 86_400.0,
    memory_limit: MemoryLimit = None,
    memory: Memory = None,
    in_process: InProcess = False,
    trust: TrustCode = False,
    as_json: AsJson = False,
) -> int:
    """Audit a new PTQ method: is it better, where does it break, is the difference real?

    First its contract is checked. A method whose numbers would be wrong is not measured. Exit status 0: a verdict was
    reached; 1: it was not, trials failed, or a condition of --fail-if holds.
    """
    from evalsuite.audit import audit as run_audit
    from evalsuite.running.options import RunOptions
    from evalsuite.study.audit import AuditRequest, options_of
    from evalsuite.study.file import key_and_value

    options = RunOptions(
        workers, data_root, device, cache, cache_gigabytes, time_limit, in_process, memory_limit, memory=memory
    )
    console = Console(stderr=True, quiet=as_json)
    own, rivals = options_of(option or [])
    found = _target(target, own, options, console)
    usual = [str(found.bits or "W8A8")] if found.is_network else []
    request = AuditRequest(
        found.setting,
        target,
        profile,
        tuple(dict.fromkeys(task or [])),
        dict(key_and_value(text, "--task-option", "images=photos") for text in task_option or []),
        tuple(dict.fromkeys(names(against))),
        tuple(dict.fromkeys(names(bits) or usual)),
        rivals,
        tuple(overrides or []),
        found.is_network,
        trust,
    )
    said = shlex.join(["evalsuite", *sys.argv[1:]])
    audited = run_audit(
        request, found, out, options, baselines=baselines, fail_if=fail_if or [], command=said, console=console
    )
    _say(audited, as_json)
    return DONE if audited.passed else SOME_FAILED


def _target(text: str, own: dict[str, Any], options: RunOptions, console: Console) -> targets.Target:
    """Return what is to be audited; the code of a user's file is announced, and run elsewhere before it is run here."""
    from evalsuite.targets import rehearse, runs_code, target_of

    if runs_code(text) and Path(text.rpartition(":")[0]).is_file():  # what is missing, target_of says
        console.print(f"running the code of {text.rpartition(':')[0]}", markup=False, highlight=False, soft_wrap=True)
        rehearse(text, options.limits)
    return target_of(text, own)


def _say(audited: Audited, as_json: bool) -> None:
    verdict = audited.verdict
    if as_json:
        paths = {"folder": str(audited.folder), "page": str(audited.page)}
        print(json.dumps({**paths, "passed": audited.passed, "verdict": verdict.model_dump(mode="json")}))
        return
    lines: Any = registry.load("reports", "audit_lines")
    print("\n".join(lines(verdict)))
    print(f"page: {audited.page}")
