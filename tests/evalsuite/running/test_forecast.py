import dataclasses

import pytest
import torch
from _dummies.studies import tiny
from torch import nn

from evalsuite import store
from evalsuite.errors import RequestError
from evalsuite.running.estimates import kind_of, learnt
from evalsuite.running.forecast import FILE_BYTES, RECORD_BYTES, forecast, rows_of, timed
from evalsuite.study.cost import cost_of, domains_of
from evalsuite.study.tables import Diagnosis
from evalsuite.study.trials import adapts, expand


def expanded(**changes):
    study = tiny(**changes)
    return study, expand(study, dict.fromkeys(study.tasks, ""))


def test_without_rows_networks_are_timed_and_quantizing_is_left_out(tmp_path):
    study, trials = expanded()
    found = forecast(study, trials, None, tmp_path)
    assert found.hours > 0
    assert not found.quantizing
    assert "timing" in found.basis
    assert list(tmp_path.iterdir()) == []
    network = timed(study.tasks[0], None)
    assert network.pass_seconds > 0
    images = 3 * 24 * network.image_bytes
    assert found.disk_bytes == 12 * (FILE_BYTES + 72 * RECORD_BYTES) + 2 * 4 * network.parameters + images


def test_networks_are_timed_by_one_thread_whatever_the_process_has():
    """Two that wait for each other where a core is busy took a hundred times as long."""
    seen = []
    count = nn.modules.module.register_module_forward_pre_hook(lambda *call: seen.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        timed(tiny().tasks[0], None)
        assert torch.get_num_threads() == 2
    finally:
        count.remove()
        torch.set_num_threads(1)
    assert set(seen) == {1}


def test_hours_are_what_the_rows_of_a_run_say(finished):
    """By hand: each network once, each adapted stream, and each domain of a fixed network once for both orders."""
    study, trials = expanded()
    found = forecast(study, trials, None, finished.folder)
    assert found.quantizing
    assert found.basis == f"from 12 trials of {finished.folder}"
    assert found.peak_bytes == finished.trials["peak_bytes"].max()
    rows = finished.trials
    rows = rows.assign(bits=rows["bits"].astype(str))
    expected = 0.0
    for (quantizer, bits, adapter), own in rows.groupby(["quantizer", "bits", "adapter"]):
        rate = own["adapt_seconds"].sum() / own["images"].sum()
        kind = [t for t in trials if kind_of(t)[1:] == (quantizer, bits, adapter)]
        assert len(kind) == len(own)
        networks = len({t.quantization for t in kind})
        expected += rate * 72 * (len(kind) if adapts(kind[0].adapter) else networks)
        if bits != "FP32" and not adapts(kind[0].adapter):
            made = rows[(rows["quantizer"] == quantizer) & (rows["bits"] == bits)]["quantize_seconds"].mean()
            expected += networks * made
    assert 3600 * found.hours == pytest.approx(expected)


def test_rows_of_the_table_and_of_the_records_agree(finished):
    _, trials = expanded()
    named = dict(zip((t.identity for t in trials), store.read_rows(finished.folder).values(), strict=True))
    assert len(rows_of(finished.folder)) == learnt(trials, named).count == 12


@pytest.mark.parametrize("content", [b"", b"PAR1 is not enough"])
def test_a_damaged_table_counts_for_nothing(tmp_path, content):
    (tmp_path / "trials.parquet").write_bytes(content)
    assert rows_of(tmp_path) == []


def test_a_task_without_its_network_is_named_and_nothing_else_is_lost(tmp_path):
    study, trials = expanded(tasks=["cifar10/resnet20"])
    found = forecast(study, trials, None, tmp_path)
    assert found.hours is found.disk_bytes is found.peak_bytes is None
    assert found.basis.startswith(
        "the network of task 'cifar10/resnet20' is not here: no data folder given: use --data"
    )


def test_what_a_run_would_refuse_is_refused(tmp_path):
    """A folder that was named and lacks a file, a checkpoint of another network: no study of them is sound."""
    study, trials = expanded(tasks=["cifar10/resnet20"])
    with pytest.raises(RequestError, match="cifar10_resnet20_optA"):
        forecast(study, trials, str(tmp_path), tmp_path)


def test_weights_that_a_run_would_load_are_nothing_to_refuse(tmp_path):
    study, trials = expanded(tasks=["imagenet/resnet18"])
    found = forecast(study, trials, str(tmp_path), tmp_path)
    assert found.hours is None
    assert "the network of task 'imagenet/resnet18' is not here: " in found.basis


def test_what_is_shared_by_streams_is_counted_once():
    study, trials = expanded()
    cost = cost_of(study, trials)
    fixed, adapting = 3 * 72, 3 * 2 * 72 * 3
    assert cost["forwards"] == cost["image_passes"] == fixed + adapting
    assert cost["forwards_unshared"] == 2 * fixed + adapting
    longer = dataclasses.replace(study, analysis=dataclasses.replace(study.analysis, jitter=2))
    assert cost_of(longer, trials)["forwards_unshared"] == 3 * cost["forwards_unshared"]


def test_looking_into_networks_counts_each_once_and_by_images(finished):
    """By hand: each quantized network, its calibration set and the streams' domains, three passes an image."""
    study, trials = expanded()
    found = {}
    for images in (0, 2, 4):
        asked = dataclasses.replace(study, diagnosis=Diagnosis(images))
        found[images] = forecast(asked, trials, None, finished.folder).hours * 3600
    rows = finished.trials
    fixed = rows[(rows["adapter"] == "none") & (rows["bits"].astype(str) != "FP32")]
    assert len(set(zip(fixed["quantizer"], fixed["bits"].astype(str), strict=True))) == 1, "one kind has one rate"
    rate = fixed["adapt_seconds"].sum() / fixed["images"].sum()
    models = {trial.quantization for trial in trials if trial.quantizer.bits is not None}
    domains = {domain for stream in {t.stream for t in trials} for domain, _ in domains_of(stream)}
    assert found[2] - found[0] == pytest.approx(3 * 2 * (len(domains) + 1) * len(models) * rate)
    assert found[4] - found[0] == pytest.approx(2 * (found[2] - found[0]))
