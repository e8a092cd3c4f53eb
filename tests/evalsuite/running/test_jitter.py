import numpy as np
import pytest
import torch
from _dummies.runs import make_run
from _dummies.studies import tiny
from rich.console import Console
from torch import nn

from evalsuite import store
from evalsuite.analysis import summarise
from evalsuite.errors import Refused, RequestError
from evalsuite.running import harness
from evalsuite.running.jitter import jittered

DIGITS = {
    "tasks": ["digits/resnet"],
    "gate": {"points": 0},
    "quantizer": [{"method": "full_precision"}, {"method": "rtn", "bits": "W4A4"}],
    "adapter": [{"method": ["none", "bn_adapt"]}],
    "stream": [
        {
            "protocol": "continual",
            "images": 12,
            "batch_size": 12,
            "corruptions": ["contrast"],
            "order": ["usual", "reversed"],
        }
    ],
}


def execute(folder, jitter, **changes):
    study = tiny(**DIGITS | changes, analysis={"permutations": 50, "bootstrap": 50, "jitter": jitter})
    harness.execute(study, folder, device="cpu", console=Console(quiet=True), in_process=True)
    return store.load(folder)


def network():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.InstanceNorm2d(8)).eval()


def test_weights_of_norms_alone_move_and_by_about_one_last_digit():
    model = network()
    with torch.no_grad():
        model[1].weight.uniform_(0.5, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    changed = jittered(model, torch.Generator().manual_seed(0)).state_dict()
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value)
        if name in ("1.weight", "2.weight"):
            ratio = (changed[name].double() / value.double() - 1).abs()
            assert ((ratio > 4e-8) & (ratio < 2.5e-7)).all()
        else:
            assert torch.equal(changed[name], value)


def test_a_network_without_norms_is_refused():
    with pytest.raises(Refused, match="Linear has none"):
        jittered(nn.Linear(3, 2), torch.Generator())


def test_repetitions_stand_beside_the_records_and_are_measured_once(tmp_path):
    plain = execute(tmp_path, 0)
    assert summarise(plain)["jitter_flip_rate"].isna().all()
    run = execute(tmp_path, 2)
    assert run.records.equals(plain.records)
    for trial, bits in zip(run.trials["trial"], run.trials["bits"], strict=True):
        repeated = run.jitter_of(trial)
        if bits == "FP32":
            assert repeated is None
        else:
            assert repeated.shape == (2, 12)
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "jitter").iterdir()}
    execute(tmp_path, 2)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "jitter").iterdir()} == files
    assert all(run.jitter_of(file.stem).shape == (3, 12) for file in files if execute(tmp_path, 3))


def test_summary_says_how_many_predictions_and_how_much_error(tmp_path):
    run = store.load(make_run(tmp_path))
    trial = run.trials["trial"].iloc[-1]
    table = run.records_of(trial, ["prediction", "label"])
    own, labels = table["prediction"].to_numpy(), table["label"].to_numpy()
    repeated = np.stack([own, own]).astype(np.int32)
    wrong = np.flatnonzero(own != labels)[:3]
    repeated[0, wrong] = labels[wrong]
    store.write_jitter(run.folder, trial, repeated)
    row = run.trials.iloc[-1]
    frame = summarise(run)
    mine = frame["quantizer_label"].eq(row["quantizer_label"]) & frame["adapter_label"].eq(row["adapter_label"])
    mine &= frame["stream_label"].eq(row["stream_label"]) & frame["task"].eq(row["task"])
    assert frame.loc[mine, "jitter_flip_rate"].tolist() == pytest.approx([3 / (2 * len(own))])
    errors = [len(np.flatnonzero(own != labels)) / len(own)] * 2 + [(len(np.flatnonzero(own != labels)) - 3) / len(own)]
    assert frame.loc[mine, "jitter_error"].tolist() == pytest.approx([np.std(errors, ddof=1)])
    assert frame.loc[~mine, "jitter_flip_rate"].isna().all()


def test_a_damaged_file_is_measured_again_and_refused_by_reports(tmp_path):
    run = execute(tmp_path, 1)
    file = next((tmp_path / "jitter").iterdir())
    content = bytearray(file.read_bytes())
    content[8] ^= 1  # of the numbers, wherever the library puts the rest
    file.write_bytes(content)
    with pytest.raises(RequestError, match="jitter"):
        run.jitter_of(file.stem)
    with pytest.warns(UserWarning, match="its jitter is measured again"):
        assert execute(tmp_path, 1).jitter_of(file.stem).shape == (1, 12)


def test_a_study_of_networks_without_norms_goes_on(tmp_path):
    study = tiny(analysis={"permutations": 50, "bootstrap": 50, "jitter": 1})
    outcome = harness.execute(study, tmp_path, device="cpu", console=Console(quiet=True), in_process=True)
    assert outcome.failed == 0
    assert not (tmp_path / "jitter").exists()


def test_less_than_no_repetition_is_refused():
    with pytest.raises(RequestError, match=r"\[analysis\] jitter = -1: expected at least 0"):
        tiny(analysis={"jitter": -1})
