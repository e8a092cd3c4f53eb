from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from evalsuite.bits import BitPolicy, bits_fields, parse_bits
from evalsuite.errors import RequestError
from evalsuite.hashing import canonical_json
from evalsuite.number_formats import FORMATS

bits = st.integers(2, 8)
widths = st.builds("W{}A{}".format, bits, bits)
globs = st.text("ab.*?", min_size=1, max_size=5)


def test_bits_are_written_as_they_are_read():
    for weights in range(2, 9):
        for activations in range(2, 9):
            policy = BitPolicy(weights, activations)
            assert parse_bits(str(policy)) == (weights, activations)
            assert BitPolicy(**policy.as_dict()) == policy


@pytest.mark.parametrize("weights", [*FORMATS, 4])
@pytest.mark.parametrize("activations", [*FORMATS, 8])
def test_formats_are_written_as_they_are_read(weights, activations):
    text = f"W{weights}A{activations}"
    policy = BitPolicy(**bits_fields(text.lower()))
    assert str(policy) == (weights if weights == activations else text)
    assert BitPolicy(**bits_fields(str(policy))) == policy == BitPolicy(**policy.as_dict())
    assert TypeAdapter(BitPolicy).validate_json(canonical_json(policy.as_dict()), strict=True) == policy
    assert policy.weight_bits == (FORMATS[weights].bits if weights in FORMATS else 4)
    assert policy.has_formats == (weights in FORMATS or activations in FORMATS)


def test_a_policy_of_integers_is_written_as_it_was_before_there_were_formats():
    assert not {"weight_format", "activation_format"} & {*BitPolicy().as_dict(), *BitPolicy.options()}
    assert not BitPolicy(overrides={"a": "W4A4"}).has_formats
    assert BitPolicy(overrides={"a": "mxfp4"}).has_formats
    assert BitPolicy(overrides={"a": "mxfp4"}).overrides == (("a", "MXFP4"),)


def test_first_and_last_layer_are_in_the_format_or_its_companion():
    def outer(name: str, **more) -> str:
        return str(BitPolicy(**bits_fields(name), **more).for_layer("conv1", "first"))

    assert [outer(name) for name in ("FP8", "MXFP4", "MXFP6-E3M2", "MXINT8", "NVFP4", "WMXFP4A8")] == [
        "FP8", "MXFP8", "MXFP8", "MXINT8", "FP8", "WMXFP8A8",
    ]  # fmt: skip
    assert outer("MXFP4", first_bits=4) == "MXFP4"
    assert str(BitPolicy(4, 4, overrides={"conv1": "NVFP4"}).for_layer("conv1", "first")) == "NVFP4"
    with pytest.raises(RequestError, match="first and last layer with 5 bits beside MXFP4: expected 4 or 8 bits"):
        BitPolicy(weight_format="MXFP4", first_last_bits=5)
    with pytest.raises(RequestError, match="per_token = true with activations in FP8: expected integers"):
        BitPolicy(activation_format="FP8", per_token=True)


@pytest.mark.parametrize("field", ["weight_bits", "activation_bits", "first_last_bits", "first_bits", "last_bits"])
@pytest.mark.parametrize("wrong", [0, 1, 9, 32])
def test_impossible_bits_are_named(field, wrong):
    with pytest.raises(RequestError, match=f"^{field} = {wrong}: expected 2 to 8$"):
        BitPolicy(**{field: wrong})


@pytest.mark.parametrize("text", ["", "4", "W4", "A4W4", "W4A", "W32A4", "W4A4 "])
def test_what_is_no_bit_width_is_named(text):
    with pytest.raises(RequestError, match="expected the form W4A8"):
        parse_bits(text)


@given(st.dictionaries(globs, widths, max_size=4))
def test_overrides_are_the_same_in_any_order_and_spelling(overrides):
    policy = BitPolicy(overrides=overrides)
    backwards = BitPolicy(overrides=[[glob, text.lower()] for glob, text in reversed(overrides.items())])
    assert policy == backwards
    assert str(policy) == ("W8A8 mixed" if overrides else "W8A8")
    assert hash(policy) == hash(backwards)
    assert canonical_json(policy.as_dict()) == canonical_json(backwards.as_dict())
    assert BitPolicy(**policy.as_dict()) == policy
    assert TypeAdapter(BitPolicy).validate_json(canonical_json(policy.as_dict()), strict=True) == policy


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (3, "expected layer names with bits"),
        ("conv1", "expected layer names with bits"),
        ([1], "expected layer names with bits"),
        ({"conv1": 4}, "expected layer names with bits"),
        ({"conv1": "4"}, "expected the form W4A8"),
        ({"conv1": "W4A9"}, "overrides, 'conv1', activation_bits = 9: expected 2 to 8"),
        ([["a", "W4A4"], ["a", "W8A8"]], "'a' both W4A4 and W8A8"),
    ],
)
def test_wrong_overrides_are_named(wrong, match):
    with pytest.raises(RequestError, match=match):
        BitPolicy(overrides=wrong)


def own(policy: BitPolicy, name: str, position="inner") -> tuple[int, int]:
    layer = policy.for_layer(name, position)
    return layer.weight_bits, layer.activation_bits


def test_first_and_last_layer_and_the_most_specific_override():
    policy = BitPolicy(
        3, 5, overrides={"layer3.*": "W8A8", "*.conv1": "W6A7", "layer3.0.conv1": "W2A2"}, first_bits=7, last_bits=6
    )
    assert own(policy, "conv1", "first") == (7, 7)
    assert own(policy, "fc", "last") == (6, 6)
    assert own(BitPolicy(3, 5), "fc", "last") == (8, 8)
    assert own(policy, "layer2.0.conv1") == (6, 7)
    assert own(policy, "layer3.0.conv2") == (8, 8)
    assert own(policy, "layer3.0.conv1") == (2, 2)
    assert own(policy, "layer3.1.conv1") == (8, 8)  # "layer3." is longer than ".conv1"
    assert own(policy, "layer1.0.conv2") == (3, 5)
    assert own(BitPolicy(overrides={"f?": "W4A3"}), "fc", "last") == (4, 3)
    assert policy.for_layer("layer2.0.conv1").overrides == ()


def test_overrides_that_disagree_are_named():
    policy = BitPolicy(overrides={"a.*": "W4A4", "*.b": "W8A8"})
    assert own(policy, "a.c") == (4, 4)
    with pytest.raises(RequestError, match=r"overrides '\*\.b' and 'a\.\*' give a\.b different bits"):
        policy.for_layer("a.b")
    assert own(BitPolicy(overrides={"a.*": "W4A4", "*.b": "W4A4"}), "a.b") == (4, 4)


def test_an_override_that_matches_nothing_names_the_nearest_layer():
    policy = BitPolicy(overrides={"layer9.*": "W4A4"})
    policy.check_overrides(["conv1", "layer9.0.conv1"])
    with pytest.raises(RequestError, match=r"^overrides: 'layer9\.\*' matches no quantized layer; the nearest is 'lay"):
        policy.check_overrides(["conv1", "layer3.0.conv1", "fc"])


def test_a_layer_may_stay_unquantized():
    policy = BitPolicy(4, 4, overrides={"layer1.*": "Float", "layer1.0.conv2": "W8A8", "fc": "float"})
    assert policy.overrides == (("fc", "float"), ("layer1.*", "float"), ("layer1.0.conv2", "W8A8"))
    assert [policy.stays_float(name) for name in ("layer1.0.conv1", "layer1.0.conv2", "fc", "conv1")] == [1, 0, 1, 0]
    assert own(policy, "layer1.0.conv2") == (8, 8)
    assert not policy.has_formats
    assert str(policy) == "W4A4 mixed"
    with pytest.raises(RequestError):
        BitPolicy(overrides={"a.*": "float", "*.b": "W8A8"}).stays_float("a.b")
