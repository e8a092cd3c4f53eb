"""What a study would cost: trials, images, passes."""

from __future__ import annotations

from evalsuite import registry
from evalsuite.isolation import requested
from evalsuite.optional_members import length_of
from evalsuite.streams import Domain
from evalsuite.study.settings import Study
from evalsuite.study.trials import adapts, expand

# Image passes per image of an adapting method: a forward and a backward, or two forwards. A rough figure, ours.
_ADAPTING_PASSES = 3


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
        images = setting.values().get("images", (length_of(protocol) or 0) // max(len(domains), 1))
        return [(domain, int(images)) for domain in domains]


def _length(setting: registry.Setting, shown: list[tuple[Domain, int]]) -> int:
    with requested(f"stream {setting.name!r} cannot say how long it is"):
        length = length_of(setting.build())
        return sum(images for _, images in shown) if length is None else length
