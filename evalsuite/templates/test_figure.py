"""Does it keep the contract? What fails is listed with its mend."""

from pathlib import Path

import evalsuite
from evalsuite import testing
from evalsuite.templates.figure import Mine

STUDY = """
name = "small"
tasks = ["digits/resnet"]
[analysis]
permutations = 100
bootstrap = 100
[[calibration]]
protocol = "calibration"
size = 32
[[quantizer]]
method = ["full_precision", "rtn"]
[[adapter]]
method = ["none", "bn_adapt"]
[[stream]]
protocol = "continual"
corruptions = ["clean", "fog"]
images = 40
"""


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    """Drawn of a small run; ``evalsuite.load(FOLDER)`` opens one that is there, of all that it should show."""
    study = tmp_path / "small.toml"
    study.write_text(STUDY, encoding="utf-8")
    folder = evalsuite.run(study, tmp_path / "run", in_process=True)
    testing.check_figure(Mine(), evalsuite.load(folder))
