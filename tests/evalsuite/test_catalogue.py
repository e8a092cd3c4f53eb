from _dummies import plugins
from _dummies.studies import tiny

from evalsuite.running.stream_files import write_streams
from evalsuite.study.cost import cost_of

STREAM = {"protocol": "continual", "images": 12, "corruptions": ["fog", "snow"], "gradual": True, "severity": 2}


def passes(stream, adapter):
    chosen = tiny(stream=[stream], quantizer=[{"method": "full_precision"}], adapter=[{"method": adapter}])
    return cost_of(chosen)["image_passes"]


def test_an_adapting_model_sees_the_whole_stream_and_a_fixed_one_each_domain_once():
    stream = STREAM | {"rounds": 3}
    fixed = 12 * 4  # two corruptions at two severities
    assert passes(stream, "none") == fixed
    assert passes(stream, ["none", plugins.DRIFTING]) == fixed + 3 * (3 * 12 * 6)  # 1, 2, 1 of two corruptions


def test_a_replayed_stream_costs_what_its_file_holds(tmp_path):
    [file] = write_streams(tiny(stream=[STREAM]), tmp_path).values()
    replay = {"protocol": "replay", "file": str(file)}
    assert passes(replay, ["none", plugins.DRIFTING]) - passes(replay, "none") == 3 * 12 * 6
