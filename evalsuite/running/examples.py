"""A few of the images that a run showed, kept for its report: records hold no pixels."""

from __future__ import annotations

import io
import itertools
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evalsuite import checksums
from evalsuite.files import read_arrays
from evalsuite.hashing import digest
from evalsuite.plugins import UInt8Array
from evalsuite.running.domain_images import StreamImages, domain_images
from evalsuite.running.flipped import Shown, of_worst_groups
from evalsuite.running.task_data import task_data
from evalsuite.running.workspace import Workspace
from evalsuite.streams import Domain
from evalsuite.study.trials import Trial, plan_stream

FILE = "examples.npz"
MOST_PICTURES, MOST_BYTES, SIDE = 300, 120_000, 96
"""What is kept of negative flips at most: pictures, their bytes, and pixels on a side; ours, for a page of 3 MB."""
_MOST = 24
_FORMAT = 2  # part of the key: files of another one are made anew
_QUALITY = 80  # of WebP


@dataclass(frozen=True, eq=False)
class Done:
    """A trial that is done, and its row of ``trials.parquet``."""

    trial: Trial
    row: Mapping[str, Any]

    @property
    def task(self) -> str:
        """The task's label in the run."""
        return str(self.row["task"])


def keep_examples(done: Sequence[Done], private: Collection[str], workspace: Workspace) -> None:
    """Write ``examples.npz``: images as the networks met them, none of a task that is private.

    For each of the first domains of the first trial's stream, the first image it shows there: arrays ``images``
    (n, H, W, 3) uint8, ``labels``, ``domains``, ``tasks`` (n,) text. And what the worst class and domain of each
    combination lose (:mod:`evalsuite.flips`), at most ``MOST_PICTURES`` in ``MOST_BYTES``: ``flip_pictures`` WebP files
    end to end, ``flip_ends`` (m,) where each ends, ``flip_tasks``, ``flip_domains`` (m,) text, ``flip_severities``,
    ``flip_images`` (m,) whole numbers. ``key`` says what the file was made of.

    A file of these trials stays, and so does one that somebody put there, which has no checksum; a damaged one, and
    one of other trials, is made again.

    Parameters
    ----------
    done : in the study's order.
    private : labels of tasks.
    """
    file = workspace.folder / FILE
    public = [each for each in done if each.task not in private]
    key = digest([_FORMAT, sorted(each.trial.identity for each in public), sorted(private)])
    if _stays(file, key):
        return
    if not public:
        file.unlink(missing_ok=True)
        return
    kept = _of_domains(public[0], workspace) | _of_flips(public, workspace)
    _write(file, {"key": np.array(key), **kept})


def merge_examples(folder: Path, runs: Sequence[Path]) -> None:
    """Write one file of those of several runs of a study: the first's, with the pictures of negative flips of all.

    Every run's first picture comes before the second of each, as many as there is room for; a damaged file is left out.
    Where the first is somebody's own, it alone is copied.
    """
    found = []
    for run in runs:
        try:
            checksums.verify(run / FILE)
            found.append((run / FILE, read_arrays(run / FILE)))
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            checksums.warn_of(run / FILE, error, "its images are left out")
    if not found:
        return
    if "key" not in found[0][1]:
        shutil.copyfile(found[0][0], folder / FILE)
        return
    flips = [_flips_in(parts) for _, parts in found if "key" in parts]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*(own.items() for own in flips)))
    _write(folder / FILE, found[0][1] | _packed(dict(filter(None, turns))))


def _write(file: Path, arrays: Mapping[str, Any]) -> None:
    with checksums.sealing(file) as temporary:
        np.savez_compressed(temporary, **arrays)
        checksums.append_blank(temporary)


def _flips_in(parts: Mapping[str, Any]) -> dict[Shown, bytes]:
    """Return the pictures of negative flips in a file of a run's, by what they show."""
    ends = parts["flip_ends"].tolist()
    columns = (parts[f"flip_{name}"].tolist() for name in ("tasks", "domains", "severities", "images"))
    pictures = (parts["flip_pictures"][start:end].tobytes() for start, end in itertools.pairwise([0, *ends]))
    return dict(zip(itertools.starmap(Shown, zip(*columns, strict=True)), pictures, strict=True))


def _packed(found: Mapping[Shown, bytes]) -> dict[str, Any]:
    """Return the arrays that hold the first of these pictures, as many as there is room for."""
    kept: list[Shown] = []
    size = 0
    for shown, content in itertools.islice(found.items(), MOST_PICTURES):
        size += len(content)
        if size > MOST_BYTES:
            break
        kept.append(shown)
    return {
        "flip_pictures": np.frombuffer(b"".join(found[each] for each in kept), np.uint8),
        "flip_ends": np.cumsum([len(found[each]) for each in kept], dtype=np.int64),
        "flip_tasks": np.array([each.task for each in kept], dtype=np.str_),
        "flip_domains": np.array([each.domain for each in kept], dtype=np.str_),
        "flip_severities": np.array([each.severity for each in kept], dtype=np.int8),
        "flip_images": np.array([each.image for each in kept], dtype=np.int32),
    }


def _stays(file: Path, key: str) -> bool:
    try:
        sealed = checksums.verify(file)
        parts = read_arrays(file)
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        checksums.warn_of(file, error, "its images are kept again")
        return False
    return not sealed or str(parts.get("key", "")) == key


def _of_domains(first: Done, workspace: Workspace) -> dict[str, Any]:
    """Return the first image of each of the first domains of a trial's stream."""
    trial = first.trial
    data = task_data(trial.task, workspace.root)
    stream = plan_stream(trial, data.test_labels)
    shown, places = np.unique(stream.domain, return_index=True)
    places = places[np.argsort(shown)][:_MOST]
    images = StreamImages(trial, stream, workspace).fetch(stream.image[places], stream.domain[places])
    labels = [data.classes[label] for label in data.test_labels[stream.image[places]]]
    domains = [str(stream.domains[number]) for number in stream.domain[places]]
    return {
        "images": np.asarray(images),
        "labels": np.array(labels, dtype=np.str_),
        "domains": np.array(domains, dtype=np.str_),
        "tasks": np.array([first.task] * len(labels), dtype=np.str_),
    }


def _of_flips(done: Sequence[Done], workspace: Workspace) -> dict[str, Any]:
    """Return the pictures of what flips in the worst groups, as many as there is room for."""
    wanted = of_worst_groups(workspace.folder, [each.row for each in done])
    chosen = dict(itertools.islice(wanted.items(), MOST_PICTURES))
    found = _fetched(chosen, done, workspace)
    return _packed({shown: found[shown] for shown in chosen})


def _fetched(wanted: Mapping[Shown, str], done: Sequence[Done], workspace: Workspace) -> dict[Shown, bytes]:
    """Return each picture as WebP, read from what a trial showed; ``wanted``: the trial of each."""
    trials = {each.row["trial"]: each.trial for each in done}
    by_trial: dict[str, list[Shown]] = {}
    for shown, identity in wanted.items():
        by_trial.setdefault(identity, []).append(shown)
    found: dict[Shown, bytes] = {}
    for identity, own in by_trial.items():
        trial = trials[identity]
        stream = plan_stream(trial, task_data(trial.task, workspace.root).test_labels)
        images = {each.domain: each for each in domain_images(trial, stream, workspace.root)}
        for domain in dict.fromkeys(Domain(each.domain, each.severity) for each in own):
            here = [each for each in own if (each.domain, each.severity) == (domain.name, domain.severity)]
            pixels = images[domain].open(workspace).fetch(np.array([each.image for each in here]))
            found |= {shown: _webp(image) for shown, image in zip(here, pixels, strict=True)}
    return found


def _webp(image: UInt8Array) -> bytes:
    from PIL import Image  # here: a run needs it only now

    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="webp", quality=_QUALITY, method=6)
    return buffer.getvalue()
