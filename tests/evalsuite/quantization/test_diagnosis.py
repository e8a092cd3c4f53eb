import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from evalsuite.bits import BitPolicy
from evalsuite.models.attention import MatMul
from evalsuite.quantization.diagnosis import COLUMNS, diagnose, rounds, weight_diagnosis
from evalsuite.quantization.grids.layers import ActivationQuantizer, QuantLinear, TokenQuantizer
from evalsuite.quantization.grids.nonuniform import TwinQuantizer
from evalsuite.quantization.layer_report import Ratio
from evalsuite.quantizers.rtn import RoundToNearest


class Flat(nn.Module):
    """One linear layer that is quantized by hand, so that all its numbers are known."""

    def __init__(self, quantizer):
        super().__init__()
        self.fc = QuantLinear(nn.Linear(2, 2, bias=False), BitPolicy(4, quantizer.bits))
        self.fc.input_quantizer = quantizer

    def forward(self, x):
        return self.fc(x.flatten(1))


def flat(quantizer, ready=True):
    model = Flat(quantizer)
    with torch.no_grad():
        model.fc.weight.copy_(torch.eye(2))
        model.fc.set_weight_range(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 1.0]))
    if ready:
        quantizer.set_range(torch.tensor(-1.0), torch.tensor(2.0))
    return model.eval()


def images(*pairs):
    return torch.tensor(pairs, dtype=torch.float32).reshape(len(pairs), 1, 1, 2)


def test_codes_clipping_and_dead_channels_are_counted_by_hand():
    grid = ActivationQuantizer(2)  # -1, 0, 1, 2
    row = diagnose(
        flat(ActivationQuantizer(2), ready=False), flat(grid), images((-3, 0), (0, 0), (5, 0), (0.2, 0))
    ).iloc[0]
    assert tuple(row.index) == COLUMNS
    assert row["unused"] == 1 / 4  # nothing is rounded to 1
    assert (row["clipped_low"], row["clipped_high"]) == (1 / 8, 1 / 8)
    assert row["dead_channels"] == 1 / 2
    assert row["code_entropy"] == pytest.approx(-sum(p * math.log2(p) for p in (1 / 8, 6 / 8, 1 / 8)))
    noise = 2**2 + 3**2 + 0.2**2
    assert row["activation_snr_db"] == pytest.approx(10 * math.log10((9 + 25 + 0.04) / noise), abs=1e-4)
    assert row["snr_db"] == pytest.approx(row["activation_snr_db"])  # its weight is the identity
    assert row["weight_unused"] == 14 / 16
    assert row["weight_snr_db"] == math.inf


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.floats(-8, 8, width=32), min_size=4, max_size=40).filter(lambda values: len(values) % 2 == 0),
    st.integers(2, 8),
    st.booleans(),
)
def test_counts_agree_with_numpy(values, bits, symmetric):
    grid = ActivationQuantizer(bits, symmetric)
    model = flat(grid)
    x = np.array(values, np.float32)
    row = diagnose(None, model, images(*x.reshape(-1, 2).tolist())).iloc[0]
    steps, (low, high) = np.round(x / np.float32(grid.scale.item())), grid.reach
    assert row["clipped_low"] == pytest.approx(np.mean(steps < low))
    assert row["clipped_high"] == pytest.approx(np.mean(steps > high))
    assert row["unused"] == pytest.approx(1 - len(np.unique(np.clip(steps, low, high))) / 2**bits)
    assert math.isnan(row["snr_db"])
    assert 0 <= row["code_entropy"] <= bits


def test_grids_without_integers_have_no_occupancy():
    quantizers = [TokenQuantizer(4), TwinQuantizer(4, signed=True)]
    for quantizer in quantizers:
        row = diagnose(None, flat(quantizer), images((-3, 0.3), (0.1, 1))).iloc[0]
        assert row[["unused", "clipped_low", "clipped_high", "code_entropy"]].isna().all()
        assert math.isfinite(row["activation_snr_db"])
    layer = QuantLinear(nn.Linear(32, 2), BitPolicy(weight_format="MXFP4", activation_format="MXFP4"))
    before = copy.deepcopy(layer)
    layer.round_weight()
    layer.input_quantizer.switch(True)
    rows = diagnose(nn.Sequential(nn.Flatten(), before), nn.Sequential(nn.Flatten(), layer), torch.randn(3, 2, 4, 4))
    assert rows[["weight_unused", "weight_clipped", "unused"]].isna().all(axis=None)
    assert rows["weight_snr_db"].between(5, 40).all()


class Product(nn.Module):
    def __init__(self, product):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.scores = product

    def forward(self, x):
        x = self.conv(x).flatten(2)
        return self.scores(x, x.transpose(1, 2)).flatten(1)


def test_products_have_a_row_for_each_operand_and_layers_come_as_they_run():
    torch.manual_seed(0)
    model, x = Product(MatMul()).eval(), torch.randn(4, 3, 6, 6)
    quantizer = RoundToNearest()
    reference = quantizer.insert(model, BitPolicy(8, 8), x[:1])
    quantized = quantizer.insert(model, BitPolicy(8, 8), x[:1])
    quantizer.calibrate(quantized, x, torch.Generator())
    assert rounds(quantized)
    assert not rounds(reference)
    rows = diagnose(reference, quantized, x).set_index("layer")
    assert list(rows.index) == ["conv", "scores.left", "scores.right"]
    assert rows.loc["scores.left", "snr_db"] == rows.loc["scores.right", "snr_db"]
    with torch.no_grad():
        noise = (quantized(x) - model(x)).square().sum() / model(x).square().sum()
    assert rows.loc["scores.left", "snr_db"] == pytest.approx(-10 * math.log10(noise), abs=1e-2)
    assert rows["dead_channels"].isna().tolist() == [False, True, True]


def test_weights_are_not_compared_where_a_norm_took_something_of_them():
    model = nn.Sequential(nn.LayerNorm(2), QuantLinear(nn.Linear(2, 2), BitPolicy(4, 4)))
    changed = copy.deepcopy(model)
    assert "weight_snr_db" in weight_diagnosis(model, changed)["1"]
    with torch.no_grad():
        changed[0].weight.mul_(2)
    assert set(weight_diagnosis(model, changed)["1"]) == {"weight_bits", "weight_unused"}


def test_a_network_without_quantized_layers_has_no_rows():
    assert diagnose(None, nn.Sequential(nn.Conv2d(3, 2, 1)), torch.randn(2, 3, 4, 4)).empty


def test_ratios_of_many_values_are_those_in_double_precision():
    exact = torch.randn(300, 1000, generator=torch.Generator().manual_seed(0))
    actual = exact + 0.01
    ratio = Ratio()
    ratio.add(exact[:100], actual[:100])
    ratio.add(exact[100:], actual[100:])
    noise = (actual.double() - exact.double()).square().sum() / exact.double().square().sum()
    assert ratio.decibels() == pytest.approx(-10 * math.log10(noise), abs=1e-3)


@pytest.mark.filterwarnings("ignore::evalsuite.errors.QuantizationWarning")
def test_channels_of_a_sequence_are_those_of_its_layer():
    """(N, C, L) of Conv1d: positions are no channels."""

    class Pixels(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.mix, self.head = nn.Conv2d(3, 8, 3), nn.Conv1d(8, 16, 1), nn.Linear(16, 5)

        def forward(self, x):
            sequence = torch.relu(self.stem(x)).flatten(2)
            return self.head(torch.relu(self.mix(sequence)).mean(2))

    network, shown = Pixels().eval(), torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.mix.weight[:8], network.mix.bias[:8] = 0, 0
    method = RoundToNearest()
    model, ready = (method.insert(network, BitPolicy(8, 8), shown[:1]) for _ in range(2))
    method.calibrate(model, shown, torch.Generator())
    rows = diagnose(ready, model, shown).set_index("layer")
    assert rows.loc["mix", "dead_channels"] == 1 / 2
