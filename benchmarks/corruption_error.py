"""Error of a task's full-precision network under the corruptions: does the engine do the damage it should?

python benchmarks/corruption_error.py OUT.csv [--task T] [--images N] [--severity S] [--data-root DIR]

Writes a row for each corruption and severity and prints the mean over the 15 common corruptions. The published mean
of cifar10/resnet26_gn at severity 5 on all 10,000 images of CIFAR-10-C is 32.7 %.
"""

import argparse
import os
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from evalsuite import corrupt, files, registry
from evalsuite.corruptions import COMMON, HELD_OUT
from evalsuite.plugins import TaskData
from evalsuite.running.task_data import normalise, task_data, task_model

BATCH = 250


@torch.no_grad()
def wrong(model: nn.Module, data: TaskData, start: int, stop: int, name: str, severity: int) -> int:
    """Count the errors on the corrupted images ``start`` to ``stop``."""
    images = corrupt(data.test_images[start:stop], name, severity, first_index=start, data_set=data.data_set)
    logits: Tensor = model(normalise(images, data))
    return int((logits.argmax(dim=1) != torch.from_numpy(data.test_labels[start:stop])).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--task", default="cifar10/resnet20", choices=registry.names("tasks"))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--severity", type=int, choices=range(1, 6), help="only this one [default: all five]")
    parser.add_argument("--data-root", default=os.environ.get("EVALSUITE_DATA"))
    arguments = parser.parse_args()
    data = task_data(arguments.task, arguments.data_root)
    model = task_model(arguments.task, arguments.data_root).eval()
    count = min(arguments.images, len(data.test_labels))
    rows = []
    for severity in (arguments.severity,) if arguments.severity else range(1, 6):
        for name in COMMON + HELD_OUT:
            starts = range(0, count, BATCH)
            errors = sum(wrong(model, data, start, min(start + BATCH, count), name, severity) for start in starts)
            rows.append({"corruption": name, "severity": severity, "images": count, "error": errors / count})
            print(f"{name:18} {severity}  {100 * errors / count:6.2f} %", flush=True)
    table = pd.DataFrame(rows)
    with files.replacing(arguments.out) as path:
        table.to_csv(path, index=False)
    for severity, error in table[table.corruption.isin(COMMON)].groupby("severity").error.mean().items():
        print(f"severity {severity}, mean of the 15 common corruptions: {100 * error:.2f} %")


if __name__ == "__main__":
    main()
