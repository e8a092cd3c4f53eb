"""Choose an option on held-out corruptions: run a study of this folder and keep its table beside it.

python benchmarks/choices/choose.py NAME [--data-root ../shared/data] [--workers 2] [--out DIR]

NAME.toml shows only corruptions outside the test list (speckle noise, gaussian blur, spatter, saturate). NAME.csv gets
a row for each setting, best first: mean error over the domains, its 95 % interval, and the error of the worst class.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import evalsuite
from evalsuite import files
from evalsuite.analysis import summarise
from evalsuite.corruptions import HELD_OUT
from evalsuite.study.file import read

COLUMNS = ["stream_label", "quantizer_label", "adapter_label", "error", "error_low", "error_high"]
COLUMNS += ["worst_class", "worst_class_error", "nll", "seeds", "images"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a study of this folder, without .toml")
    parser.add_argument("--data-root", default=os.environ.get("EVALSUITE_DATA"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", help="folder for the run, which is resumed if it exists; by default a temporary one")
    arguments = parser.parse_args()
    here = Path(__file__).parent
    study = here / f"{arguments.name}.toml"
    shown = {domain for stream in read(study).streams for domain in stream.build().corruptions}
    if not shown <= set(HELD_OUT):
        parser.error(f"{study} shows {sorted(shown - set(HELD_OUT))}: expected held-out corruptions only")
    with tempfile.TemporaryDirectory() as folder:
        done = evalsuite.run(study, arguments.out or folder, arguments.workers, data_root=arguments.data_root)
        table = summarise(evalsuite.load(done))[COLUMNS].sort_values(["stream_label", "quantizer_label", "error"])
    with files.replacing(here / f"{arguments.name}.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.5g")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
