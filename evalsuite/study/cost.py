"""What a study would cost: trials, images, passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from evalsuite.isolation import requested
from evalsuite.optional_members import length_of
from evalsuite.registry import Setting
from evalsuite.streams import Domain
from evalsuite.study.settings import Study
from evalsuite.study.trials import Trial, adapts, expand, passes_of


def cost_of(study: Study, trials: Sequence[Trial] | None = None) -> dict[str, int]:
    """Estimate a study's cost from its settings alone; ``trials``: the study's, where they are expanded already.

    ``image_passes`` counts one forward as 1 and an adaptation step as what its method says it takes for every image of
    every stream, leaving out quantizing; streams are taken at the size that their ``images`` option asks for.
    ``forwards`` is the same number, ``forwards_unshared`` what a loop would need that runs every trial by itself (and
    would quantize as often as there are trials).
    """
    trials = expand(study, dict.fromkeys(study.tasks, "")) if trials is None else trials
    shown = {setting: domains_of(setting) for setting in study.streams}
    models = passes_by_model(trials)
    shows = repetitions(study)
    met = Counter((trial.stream, trial.adapter) for trial in trials)
    lengths = {stream: length_in_images(stream) for stream, adapter in met if adapts(adapter)}
    adapting = sum(
        round(passes_of(adapter) * lengths[stream]) * n for (stream, adapter), n in met.items() if adapts(adapter)
    )
    repeated = sum(sum(i for _, i in shown[stream]) * n for (stream, adapter), n in met.items() if not adapts(adapter))
    return {
        "trials": len(trials),
        "quantizations": len(models),
        "corrupted_domains": len({domain for parts in shown.values() for domain, _ in parts if domain.severity}),
        "image_passes": shows * sum(models.values()),
        "forwards": shows * sum(models.values()),
        "forwards_unshared": shows * (repeated + adapting),
    }


def repetitions(study: Study) -> int:
    """Return how often each trial is shown: those of full precision are not jittered, which counts a few too many."""
    return 1 + study.analysis.jitter


def passes_by_model(trials: Iterable[Trial]) -> dict[str, int]:
    """Return image passes, each trial shown once, by quantized model; see :func:`cost_of`."""
    fixed: dict[tuple[str, str], set[Setting]] = {}
    found: dict[str, int] = {}
    lengths: dict[Setting, int] = {}
    for trial in trials:
        found.setdefault(trial.quantization, 0)
        if not adapts(trial.adapter):
            fixed.setdefault(trial.network, set()).add(trial.stream)
            continue
        if trial.stream not in lengths:
            lengths[trial.stream] = length_in_images(trial.stream)
        found[trial.quantization] += round(passes_of(trial.adapter) * lengths[trial.stream])
    # A model that does not adapt sees each domain once, whatever the orders.
    shown = {stream: domains_of(stream) for stream in {stream for streams in fixed.values() for stream in streams}}
    known: dict[frozenset[Setting], int] = {}
    for (model, _), streams in fixed.items():
        key = frozenset(streams)
        if key not in known:
            known[key] = sum(images for _, images in {part for stream in key for part in shown[stream]})
        found[model] += known[key]
    return found


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
