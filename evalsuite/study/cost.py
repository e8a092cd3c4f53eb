"""What a study would cost: trials, images, passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from evalsuite.isolation import requested
from evalsuite.optional_members import length_of
from evalsuite.registry import Setting
from evalsuite.streams import Domain
from evalsuite.study.settings import Study
from evalsuite.study.trials import Trial, adapts, expand

# Image passes per image of an adapting method: a forward and a backward, or two forwards. A rough figure, ours.
ADAPTING_PASSES = 3


def cost_of(study: Study, trials: Sequence[Trial] | None = None) -> dict[str, int]:
    """Estimate a study's cost from its settings alone; ``trials``: the study's, where they are expanded already.

    ``image_passes`` counts one forward as 1 and an adaptation step as 3 for every image of every stream, leaving
    out quantizing; streams are taken at the size that their ``images`` option asks for. ``forwards`` is the same
    number, ``forwards_unshared`` what a loop would need that runs every trial by itself (and would
    quantize as often as there are trials).
    """
    trials = expand(study, dict.fromkeys(study.tasks, "")) if trials is None else trials
    shown = {setting: domains_of(setting) for setting in study.streams}
    lengths = {setting: length_in_images(setting) for setting, parts in shown.items()}
    fixed: dict[str, set[Setting]] = {}
    for trial in trials:
        if not adapts(trial.adapter):
            fixed.setdefault(trial.quantization, set()).add(trial.stream)
    # A model that does not adapt sees each domain once, whatever the orders.
    alone = sum(
        count * sum(images for _, images in {part for stream in streams for part in shown[stream]})
        for streams, count in Counter(map(frozenset, fixed.values())).items()
    )
    shows = 1 + study.analysis.jitter  # of which those of full precision are not repeated: a few too many
    met = Counter((trial.stream, adapts(trial.adapter)) for trial in trials)
    adapting = ADAPTING_PASSES * sum(lengths[stream] * n for (stream, moves), n in met.items() if moves)
    repeated = sum(sum(i for _, i in shown[stream]) * n for (stream, moves), n in met.items() if not moves)
    return {
        "trials": len(trials),
        "quantizations": len({trial.quantization for trial in trials}),
        "corrupted_domains": len({domain for parts in shown.values() for domain, _ in parts if domain.severity}),
        "image_passes": shows * (alone + adapting),
        "forwards": shows * (alone + adapting),
        "forwards_unshared": shows * (repeated + adapting),
    }


def domains_of(stream: Setting) -> list[tuple[Domain, int]]:
    """Return the domains that a stream shows and how many images of each. Raises RequestError if it cannot say."""
    with requested(f"stream {stream.name!r} cannot say what it shows"):
        protocol = stream.build()
        domains = protocol.domains()
        images = stream.values().get("images", (length_of(protocol) or 0) // max(len(domains), 1))
        return [(domain, int(images)) for domain in domains]


def length_in_images(stream: Setting) -> int:
    """Return how many images a stream shows. Raises RequestError if it cannot say."""
    with requested(f"stream {stream.name!r} cannot say how long it is"):
        length = length_of(stream.build())
        return sum(images for _, images in domains_of(stream)) if length is None else length
