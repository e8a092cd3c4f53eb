import numpy as np
from _dummies import plugins

from evalsuite.running import examples, harness


def test_a_run_keeps_an_image_of_each_domain(tmp_path):
    study = {
        "name": "tiny",
        "tasks": [plugins.TASK],
        "calibration": [{"protocol": "calibration", "size": 8}],
        "quantizer": [{"method": "full_precision"}],
        "adapter": [{"method": "none"}],
        "stream": [{"protocol": "continual", "images": 6, "corruptions": ["fog", "contrast"], "clean_first": True}],
    }
    from evalsuite.study.file import parse

    folder = harness.run(parse(study), tmp_path / "run", device="cpu", in_process=True)
    with np.load(folder / examples.FILE) as kept:
        assert kept["domains"].tolist() == ["clean", "fog 5", "contrast 5"]
        assert kept["images"].shape[0] == len(kept["labels"]) == 3
        assert kept["images"].dtype == np.uint8
        assert not np.array_equal(kept["images"][1], kept["images"][0])
    before = (folder / examples.FILE).read_bytes()
    harness.run(parse(study), tmp_path / "run", device="cpu", in_process=True)
    assert (folder / examples.FILE).read_bytes() == before
