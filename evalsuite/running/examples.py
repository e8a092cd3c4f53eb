"""A few of the images that a run showed, kept for its report: records hold no pixels."""

from __future__ import annotations

import numpy as np

from evalsuite import checksums
from evalsuite.running.domain_images import StreamImages
from evalsuite.running.task_data import task_data
from evalsuite.running.workspace import Workspace
from evalsuite.study.trials import Trial, plan_stream

FILE = "examples.npz"
_MOST = 24


def keep_examples(trial: Trial, task: str, workspace: Workspace) -> None:
    """Write ``examples.npz``: for each of the first domains of a trial's stream, the first image it shows there.

    ``task``: the task's label in the run. Arrays ``images`` (n, H, W, 3) uint8, ``labels``, ``domains``, ``tasks`` (n,)
    text. A file that is there already stays, unless it is damaged.
    """
    file = workspace.folder / FILE
    try:
        checksums.verify(file, required=True)
    except FileNotFoundError:
        pass
    except (OSError, checksums.Damaged) as error:
        checksums.warn_of(file, error, "its images are kept again")
    else:
        return
    data = task_data(trial.task, workspace.root)
    stream = plan_stream(trial, data.test_labels)
    shown, first = np.unique(stream.domain, return_index=True)
    first = first[np.argsort(shown)][:_MOST]
    images = StreamImages(trial, stream, workspace).fetch(stream.image[first], stream.domain[first])
    labels = [data.classes[label] for label in data.test_labels[stream.image[first]]]
    domains = [str(stream.domains[number]) for number in stream.domain[first]]
    with checksums.sealing(file) as temporary:
        np.savez_compressed(
            temporary,
            images=np.asarray(images),
            labels=np.array(labels, dtype=np.str_),
            domains=np.array(domains, dtype=np.str_),
            tasks=np.array([task] * len(labels), dtype=np.str_),
        )
        checksums.append_blank(temporary)
