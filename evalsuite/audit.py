"""An audit from end to end: the target's contract, the study, its run, the verdict, the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from evalsuite import registry
from evalsuite.analysis.audit import Request, unmeasured, verdict_of
from evalsuite.analysis.audit.gates import check_gates, gates_of
from evalsuite.analysis.verdict import Conformance, Verdict
from evalsuite.conformance import Asked, conformance, spoiling
from evalsuite.environment import hardware, versions
from evalsuite.errors import RequestError
from evalsuite.isolation import printable
from evalsuite.optional_members import missing_methods
from evalsuite.running.baselines import Recorded, packed_run, recorded_run
from evalsuite.running.harness import Outcome, execute
from evalsuite.running.options import RunOptions
from evalsuite.running.plan import Plan, planned
from evalsuite.running.workspace import Workspace
from evalsuite.store import load
from evalsuite.study.audit import AuditRequest, audit_study
from evalsuite.study.cost import cost_of
from evalsuite.study.settings import Study
from evalsuite.study.trust import Trust
from evalsuite.targets import Target
from evalsuite.testing import Check


@dataclass(frozen=True)
class Audited:
    """How an audit ended."""

    folder: Path
    verdict: Verdict
    page: Path
    outcome: Outcome | None
    """Of the run; None where nothing was measured."""

    @property
    def passed(self) -> bool:
        """Whether a verdict was reached, no trial failed, and no condition of ``--fail-if`` holds."""
        lost = self.outcome is not None and self.outcome.failed > 0
        return self.verdict.reached and not lost and not any(gate.failed for gate in self.verdict.gates)


def audit(
    request: AuditRequest,
    target: Target,
    out: str | Path | None = None,
    options: RunOptions | None = None,
    *,
    baselines: str | Path | None = None,
    fail_if: Sequence[str] = (),
    command: str = "",
    console: Console | None = None,
) -> Audited:
    """Audit a PTQ method and write ``verdict.json`` and the verdict's page beside the run.

    Parameters
    ----------
    request : what is asked.
    target : whose ``setting`` is the request's.
    out : the run's folder, by default ``runs/`` and the name of the request. A run that is there is resumed.
    options : of the run; ``in_process`` is for the run alone, the contract is always checked in another process.
    baselines : folder of an earlier run whose records of the rivals are taken.
    fail_if : conditions such as ``worst_class_drop > 5``, see :data:`evalsuite.analysis.audit.gates.VALUES`.

    Raises
    ------
    RequestError
        If something that is asked is unknown or impossible, or ``baselines`` are of other images, weights or versions.
    """
    options, console = options or RunOptions(), console or Console(stderr=True)
    check_gates(fail_if)
    _check_target(request)
    study = audit_study(request, Trust.on(console, request.trust))
    folder = Path(out) if out is not None else Path("runs") / study.name
    workspace = options.workspace(folder)
    plan = planned(study, workspace, command)
    known = _fitting(recorded_run(Path(baselines)) if baselines else _shipped(request.profile), plan, console)
    _say_cost(plan, request, known, console)
    checks = conformance(_asked(target, study, workspace), options.limits)
    _say_checks(request.title, checks, console)
    seen = _seen(request, target, workspace, command, checks)
    outcome = None
    if spoiling(checks):
        verdict = unmeasured(seen)
    else:
        lend = known.lend if known is not None else None
        # Planned anew: the checks have run the target's code, which may have written into the folder.
        outcome = execute(study, folder, **asdict(options), command=command, console=console, lend=lend)
        verdict = verdict_of(load(folder), seen)
    verdict = verdict.model_copy(update={"gates": gates_of(verdict, fail_if)})
    verdict.write(folder)
    page: Path = registry.load("reports", "audit_page")(folder, verdict)
    return Audited(folder, verdict, page, outcome)


def _seen(
    request: AuditRequest, target: Target, workspace: Workspace, command: str, checks: Sequence[Check]
) -> Request:
    """Return what the verdict repeats of the request and of the checks."""
    return Request(
        request.target,
        request.title,
        request.profile,
        command,
        target.label,
        target.source_digest,
        tuple(Conformance(**asdict(check)) for check in checks),
        target.left_out,
        versions=versions(),
        hardware=hardware(workspace.device, workspace.threads),
    )


def _asked(target: Target, study: Study, workspace: Workspace) -> Asked:
    """Return what is to be checked: a method by itself, a network on the images that it takes."""
    if not target.is_network:
        return Asked(target.setting)
    bits = next(each.bits for each in study.quantizers if each.method == target.setting and each.bits)
    return Asked(target.setting, study.tasks[0], workspace.root, bits)


def _check_target(request: AuditRequest) -> None:
    plugin = request.target.build()
    for method in missing_methods(plugin, ("insert", "calibrate")):
        raise RequestError(f"{request.title} has no method {method!r}: a quantizer has insert and calibrate")


def _shipped(profile: str) -> Recorded | None:
    """Return the records that are shipped with a profile, None where there are none."""
    name = f"audit_{profile}"
    if name not in registry.names("baselines"):
        return None
    return packed_run(Path(registry.load("baselines", name)))


def _fitting(known: Recorded | None, plan: Plan, console: Console) -> Recorded | None:
    """Return records that are known already where they fit a plan; says so where shipped ones do not.

    Raises RequestError where those do not fit that the user named.
    """
    if known is None:
        return None
    differences = known.differences(plan)
    if differences and not known.shipped:
        raise RequestError(f"--baselines {known.where}: {'; '.join(differences)}; expected the same here")
    if differences:
        _say(f"shipped records of the baselines do not fit ({'; '.join(differences)}): made anew", console)
        return None
    if not known.shipped and not any(trial.identity in known.rows for trial in plan.trials):
        raise RequestError(
            f"--baselines {known.where} holds none of the {len(plan.trials):,} trials that are asked: expected a run "
            "of the same tasks, seeds, bits and streams"
        )
    return known


def _say_cost(plan: Plan, request: AuditRequest, known: Recorded | None, console: Console) -> None:
    """Say what the audit will do, before it does it."""
    left = [trial for trial in plan.missing if known is None or trial.identity not in known.rows]
    text = f"{plan.study.title}, profile {request.profile}: {len(plan.trials):,} trials, {len(left):,} of them to do"
    if len(left) == len(plan.trials):
        text += f", about {cost_of(plan.study, plan.trials)['image_passes']:,} image passes"
    if plan.reused:
        text += f"; {plan.reused:,} of an earlier call"
    if known is not None:
        text += f"; {len(plan.missing) - len(left):,} known from {known.where}"
    models = len({trial.quantization for trial in left if trial.quantizer.bits is not None})
    _say(f"{text}; {models:,} networks to quantize", console)


def _say(text: str, console: Console) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _say_checks(title: str, checks: Sequence[Check], console: Console) -> None:
    """Say how many checks a method passed, and each failure with its mend."""
    counts = Counter(check.outcome for check in checks)
    parts = [f"{counts[outcome]} {outcome}" for outcome in ("pass", "fail", "not applicable") if counts[outcome]]
    lines = [f"contract of {title}: {', '.join(parts)}"]
    for check in checks:
        if check.outcome == "fail":
            lines += [f"  FAIL {check.name}: {printable(check.message, 1000)}", f"       {check.mend}"]
    if spoiling(checks):
        lines.append("its numbers would be wrong: nothing is measured")
    _say("\n".join(lines), console)
