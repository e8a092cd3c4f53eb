"""What there is, and what a study would cost: nothing here runs a network."""

from __future__ import annotations

from evalsuite import registry
from evalsuite.corruptions import COMMON, HELD_OUT, family
from evalsuite.isolation import requested
from evalsuite.streams import Domain
from evalsuite.study import Study
from evalsuite.trials import adapts, expand

KINDS: tuple[str, ...] = ("tasks", "quantizers", "adapters", "protocols", "studies", "figures", "corruptions")

# Image passes per image of an adapting method: a forward and a backward, or two forwards. A rough figure, ours.
_ADAPTING_PASSES = 3


def catalogue(kind: str) -> dict[str, str]:
    """Return the names of a kind with one line each."""
    if kind == "corruptions":
        return {name: family(name) for name in COMMON + HELD_OUT}
    if kind == "studies":
        return {name: _study_line(name) for name in registry.names("studies")}
    known: registry.Kind = kind  # type: ignore[assignment]
    return {name: registry.summary(known, name) for name in registry.names(known)}


def _study_line(name: str) -> str:
    from evalsuite.study import read

    return read(name).title


def cost_of(study: Study) -> dict[str, int]:
    """Estimate a study's cost from its settings alone.

    ``image_passes`` counts one forward as 1 and an adaptation step as 3 for every image of every stream, leaving
    out quantizing; streams are taken at the size that their ``images`` option asks for.
    """
    trials = expand(study, dict.fromkeys(study.tasks, ""))
    shown = {setting: _shown(setting) for setting in study.streams}
    # A model that does not adapt sees each domain once, whatever the orders.
    fixed = {(t.quantization, part) for t in trials if not adapts(t.adapter) for part in shown[t.stream]}
    lengths = {setting: _length(setting, parts) for setting, parts in shown.items()}
    shows = 1 + study.analysis.jitter  # of which those of full precision are not repeated: a few too many
    return {
        "trials": len(trials),
        "quantizations": len({trial.quantization for trial in trials}),
        "corrupted_domains": len({domain for parts in shown.values() for domain, _ in parts if domain.severity}),
        "image_passes": shows * sum(images for _, (_, images) in fixed)
        + shows * _ADAPTING_PASSES * sum(lengths[t.stream] for t in trials if adapts(t.adapter)),
    }


def _shown(setting: registry.Setting) -> list[tuple[Domain, int]]:
    with requested(f"stream {setting.name!r} cannot say what it shows"):
        protocol = setting.build()
        domains = protocol.domains()
        images = setting.values().get("images", getattr(protocol, "length", 0) // max(len(domains), 1))
        return [(domain, int(images)) for domain in domains]


def _length(setting: registry.Setting, shown: list[tuple[Domain, int]]) -> int:
    with requested(f"stream {setting.name!r} cannot say how long it is"):
        return int(getattr(setting.build(), "length", sum(images for _, images in shown)))
