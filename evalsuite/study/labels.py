"""Short names for people, unique within a study."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from evalsuite import registry
from evalsuite.bits import BITS_FIELDS, BitPolicy
from evalsuite.hashing import canonical_json
from evalsuite.registry import Setting
from evalsuite.study.settings import Quantized, display_name
from evalsuite.study.trials import Trial

T = TypeVar("T")


def labels(trials: Sequence[Trial]) -> dict[str, dict[str, str]]:
    """Return short names for people by trial: what a setting calls itself, and the options that tell it from others."""
    tasks = task_labels([t.task for t in trials])
    calibrations = _distinct((t.calibration for t in trials), str, lambda c: {"steps": c.as_dict()}, lambda c: {}, str)
    quantizers = _distinct(
        (t.quantizer for t in trials),
        lambda q: display_name(q.method),
        _quantizer_options,
        _quantizer_defaults,
        lambda q: q.method.name,
    )
    adapters = _distinct(
        (t.adapter for t in trials), display_name, Setting.values, _defaults, lambda adapter: adapter.name
    )
    streams = _distinct((t.stream for t in trials), display_name, Setting.values, _defaults, lambda s: s.name)
    return {
        t.identity: {
            "task": tasks[t.task],
            "calibration_label": calibrations[t.calibration],
            "quantizer_label": quantizers[t.quantizer]
            + (f" {t.quantizer.bits}" if t.quantizer.bits else "")
            + t.quantizer.on_engine,
            "adapter_label": adapters[t.adapter],
            "stream_label": streams[t.stream],
        }
        for t in trials
    }


def task_labels(tasks: Iterable[Setting]) -> dict[Setting, str]:
    """Return the names of tasks in the column ``task``: the plugin's, and the options that tell it from others."""
    return _distinct(tasks, lambda t: t.name, Setting.values, _defaults, lambda t: t.name, exact=True)


def _quantizer_options(quantizer: Quantized) -> dict[str, Any]:
    policy = quantizer.bits.as_dict() if quantizer.bits else {}
    return quantizer.method.values() | {k: v for k, v in policy.items() if k not in BITS_FIELDS}


def _defaults(setting: Setting) -> dict[str, Any]:
    return registry.defaults(setting.kind, setting.name)


def _quantizer_defaults(quantizer: Quantized) -> dict[str, Any]:
    return _defaults(quantizer.method) | BitPolicy().as_dict()


def _distinct(
    settings: Iterable[T],
    name: Callable[[T], str],
    options: Callable[[T], Mapping[str, Any]],
    defaults: Callable[[T], Mapping[str, Any]],
    plugin: Callable[[T], str],
    exact: bool = False,
) -> dict[T, str]:
    """Name settings, adding to those of one name the options in which they differ.

    What is at its default is left out, unless it is the only such option and not a mere switch.

    Where two plugins call themselves alike, the name by which the study calls them is added. Underscores become
    spaces unless names are to be ``exact``. Where that leaves two with one name (a word may be the value of more than
    one option), theirs has all options in which they differ, each with its value.
    """
    unique = list(dict.fromkeys(settings))
    names = {setting: name(setting) if exact else name(setting).replace("_", " ") for setting in unique}
    for alike, own in _by_name(names).items():
        if len({plugin(setting) for setting in own}) > 1:
            names |= {setting: f"{alike} ({plugin(setting)})" for setting in own}
    found = {}
    for alike, own in _by_name(names).items():
        chosen = {setting: options(setting) for setting in own}
        differing = _differing(list(chosen.values()))
        for setting, values in chosen.items():
            usual = defaults(setting)
            telling = [key for key in values if key in differing]
            plain = {key for key in telling if canonical_json(values[key]) == canonical_json(usual.get(key))}
            if len(telling) == 1:
                plain = {key for key in plain if isinstance(values[key], bool | None)}
            words = [
                values[key] if exact and isinstance(values[key], str) else _worded(key, values[key])
                for key in telling
                if key not in plain
            ]
            found[setting] = " ".join([alike, *filter(None, words)])
    for kin in _by_name(found).values():
        chosen = {setting: options(setting) for setting in kin}
        told = {
            setting: f"{names[setting]} {_in_full(values, _differing(list(chosen.values())))}".rstrip()
            for setting, values in chosen.items()
        }
        if len(set(told.values())) > 1:
            found |= told
    return {setting: found[setting] for setting in unique}


def _in_full(values: Mapping[str, Any], keys: Collection[str]) -> str:
    """Return options with their values, an underscore staying one: names that differ must not become one name."""
    return " ".join(f"{key}={canonical_json(value).strip(chr(34))}" for key, value in values.items() if key in keys)


def _by_name(names: Mapping[T, str]) -> dict[str, list[T]]:
    kin: dict[str, list[T]] = {}
    for setting, name in names.items():
        kin.setdefault(name, []).append(setting)
    return kin


def _differing(kin: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the options in which settings differ; one that a setting does not have counts as null there."""
    seen: dict[str, set[str]] = {}
    for options in kin:
        for key, value in options.items():
            seen.setdefault(key, set()).add(canonical_json(value))
    lacking = {key for key in seen if any(key not in options for options in kin)}
    return {key for key, values in seen.items() if len(values | ({"null"} if key in lacking else set())) > 1}


def _worded(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return key.replace("_", " ") if value else f"without {key.replace('_', ' ')}"
    return value.replace("_", " ") if isinstance(value, str) else f"{key.replace('_', ' ')}={canonical_json(value)}"
