import pytest
import torch
from _dummies.studies import tiny

from evalsuite.running.quantized_models import _inserted, load_quantized, quantize_model
from evalsuite.running.workspace import Workspace
from evalsuite.study.trials import expand


@pytest.fixture
def trials(tmp_path):
    study = tiny(quantizer=[{"method": "rtn", "bits": ["W4A4", "W8A8"]}], adapter=[{"method": "none"}], seeds=[0, 1])
    trials = [trial for trial in expand(study, dict.fromkeys(study.tasks, "")) if trial.quantizer.bits is not None]
    trials = list({trial.quantization: trial for trial in trials}.values())
    workspace = Workspace(tmp_path)
    for trial in trials:
        quantize_model(trial, workspace)
    _inserted.cache_clear()
    yield trials, workspace
    _inserted.cache_clear()


def test_a_network_that_is_filled_again_is_one_that_is_inserted_anew(trials):
    quantized, workspace = trials
    fresh = {}
    for trial in quantized:
        _inserted.cache_clear()
        fresh[trial.quantization] = load_quantized(trial, workspace).module
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for trial in [*quantized, *quantized[::-1]]:
        module, expected = load_quantized(trial, workspace).module, fresh[trial.quantization]
        state = expected.state_dict()
        assert module.state_dict().keys() == state.keys()
        assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
        assert torch.equal(module(images), expected(images))
    assert len({trial.seed for trial in quantized}) == 2


def test_one_network_is_kept(trials):
    quantized, workspace = trials
    by_bits = {}
    for trial in quantized:
        by_bits.setdefault(trial.quantizer, []).append(trial)
    for first, second in by_bits.values():
        assert load_quantized(first, workspace).module is load_quantized(second, workspace).module
    assert _inserted.cache_info().currsize == 1
