import functools

import numpy as np
import pytest
from _dummies import plugins
from _dummies.studies import tiny

from evalsuite.errors import RequestError
from evalsuite.running import harness
from evalsuite.running.stream_files import write_streams
from evalsuite.store import load
from evalsuite.streams import Stream, round_of

execute = functools.partial(harness.execute, in_process=True)
COMMON = {"protocol": "continual", "images": 12, "batch_size": 5, "severity": 1, "corruptions": ["contrast", "clean"]}
STREAM = COMMON | {"mixed": True, "label_order": "dirichlet", "reset": 2, "rounds": 2}
QUANTIZER = [{"method": "full_precision"}]
ADAPTER = [{"method": ["none", plugins.DRIFTING]}]


def study(**changes):
    return tiny(**{"stream": [STREAM], "quantizer": QUANTIZER, "adapter": ADAPTER, "seeds": [0, 1], **changes})


def test_written_streams_are_those_of_the_trials_and_replay_them(tmp_path):
    first = load(execute(study(), tmp_path / "first").folder)
    files = write_streams(study(), tmp_path / "streams")
    done = first.trials.set_index("trial")
    assert sorted(files) == sorted(set(zip(done["task"], done["stream_label"], done["seed"], strict=True)))
    for row in done.itertuples():
        file = files[row.task, row.stream_label, row.seed]
        assert file.stem == row.stream_digest == Stream.load(file).digest()
        assert (row.images, row.batches) == (48, 10)

    file = files[done["task"].iloc[0], done["stream_label"].iloc[0], 0]
    again = load(
        execute(study(stream=[{"protocol": "replay", "file": str(file)}], seeds=[0]), tmp_path / "again").folder
    )
    assert set(again.trials["stream_digest"]) == {file.stem}
    assert set(again.trials["stream_label"]) == {f"replay of {file.stem}"}
    columns = ["image", "position", "domain", "severity", "label"]
    before, after = (
        run.records_of(run.trials.query("seed == 0")["trial"].iloc[0]).to_pandas() for run in (first, again)
    )
    assert before[columns].astype(str).equals(after[columns].astype(str))
    expected = round_of(after["position"].to_numpy(), 48, 2).tolist()
    assert expected == [0] * 24 + [1] * 24
    for records in (before, after):
        assert records["round"].tolist() == expected, "a mixed stream, replayed as well"
        assert records["batch"].nunique() == 10
        assert records.groupby("batch")["reset"].first().tolist() == [False, False] + [True, False] * 4


def test_changed_content_is_another_trial_and_a_stream_that_does_not_fit_is_refused(tmp_path):
    file = next(iter(write_streams(study(seeds=[0]), tmp_path).values()))
    replay = {"stream": [{"protocol": "replay", "file": str(file)}], "seeds": [0]}
    before = set(load(execute(study(**replay), tmp_path / "run").folder).trials["trial"])
    whole = Stream.load(file)
    Stream(whole.domains, whole.image[::-1], whole.domain, whole.starts, whole.resets).save(file)
    outcome = execute(study(**replay), tmp_path / "run")
    assert outcome.reused == 0
    assert before.isdisjoint(load(outcome.folder).trials["trial"])
    Stream(whole.domains, whole.image + np.int32(40), whole.domain, whole.starts, whole.resets).save(file)
    with pytest.raises(RequestError, match="shows test image 51: expected less than 48"):
        execute(study(**replay), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_overrides_apply(tmp_path):
    text = "\n".join(
        [
            'name = "tiny"',
            f'tasks = ["{plugins.TASK}"]',
            '[[calibration]]\nprotocol = "calibration"\nsize = 6',
            '[[quantizer]]\nmethod = "full_precision"',
            '[[adapter]]\nmethod = "none"',
            '[[stream]]\nprotocol = "continual"\nimages = 12',
        ]
    )
    (tmp_path / "tiny.toml").write_text(text)
    files = write_streams(tmp_path / "tiny.toml", tmp_path / "streams", overrides=["stream.images=5", "seeds=[3]"])
    [(key, file)] = files.items()
    assert key == (plugins.TASK, "usual order, severity 5", 3)
    assert len(Stream.load(file)) == 75
