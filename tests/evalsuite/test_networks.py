from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn

from evalsuite import adapt, quantize
from evalsuite.adapters.bn_adapt import BatchNormAdaptation
from evalsuite.adapters.tent import Tent
from evalsuite.errors import RequestError
from evalsuite.networks import plain, plain_copy
from evalsuite.quantization.saving import load, save
from evalsuite.quantizers.rtn import RoundToNearest

X = random_images(16)
HALVES = [torch.float16, torch.bfloat16]


def grids(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.state_dict().items() if "scale" in name or "zero_point" in name}


@pytest.mark.parametrize(
    ("method", "dtype"),
    [
        *zip(("rtn", "adaround", "brecq", "qdrop", "pd_quant", "gptq", "ptq4vit", "repq_vit"), HALVES * 4, strict=True),
        ("pd_quant", torch.bfloat16),
    ],
)
def test_a_network_in_half_precision_gets_the_grids_of_its_float_twin(method, dtype):
    few = {} if method in ("rtn", "gptq", "ptq4vit", "repq_vit") else {"iterations": 2}
    few |= {"rows": 32, "candidates": 10} if method == "ptq4vit" else {}
    few |= {"correction_steps": 2} if method == "pd_quant" else {}
    half, bits = tiny_resnet().to(dtype), {"weight_bits": 8, "activation_bits": 8}
    images = X.to(dtype)
    quantized = quantize(half, images, method=method, **bits, **few)
    expected = quantize(copy.deepcopy(half).float(), images.float(), method=method, **bits, **few)
    torch.testing.assert_close(grids(quantized), grids(expected), rtol=0, atol=0)
    with torch.no_grad():
        found, wanted = quantized(images), expected(images.float())
    assert found.dtype == dtype
    assert next(half.parameters()).dtype == dtype
    assert float((found.float() - wanted).norm() / wanted.norm()) < (0.02 if dtype == torch.float16 else 0.1)


@pytest.mark.parametrize(
    ("method", "dtype"),
    [(method, torch.float16) for method in ("none", "bn_adapt", "eata", "sar", "cotta", "rotta", "t3a", "lame", "zoa")]
    + [("tent", torch.float16), ("tent", torch.bfloat16), ("ttaq", torch.bfloat16), ("foa", torch.bfloat16)],
)
def test_an_adapter_on_half_precision_computes_in_float32(method, dtype):
    fewer = {"cotta": {"augmentations": 2}, "zoa": {"min_batch": 8}, "foa": {"population": 2}}
    options = fewer.get(method, {})
    half = tiny_resnet().to(dtype)
    adapted = adapt(half, method, X.to(dtype), **options)
    expected = adapt(copy.deepcopy(half).float(), method, X.to(dtype).float(), **options)
    for batch in X.to(dtype).split(8):
        logits, wanted = adapted(batch), expected(batch.float())
        assert logits.dtype == dtype
        assert torch.equal(logits, wanted.to(dtype))
    assert next(half.parameters()).dtype == dtype


def test_tokens_of_half_precision_find_their_grids_in_float32():
    model = tiny_transformer().half()
    options = {"method": "rtn", "weight_bits": 8, "activation_bits": 8, "per_token": True}
    quantized = quantize(model, X.half(), **options)
    expected = quantize(copy.deepcopy(model).float(), X.half().float(), **options)
    with torch.no_grad():
        found, wanted = quantized(X.half()), expected(X.half().float())
    assert found.dtype == torch.float16
    assert float((found.float() - wanted).norm() / wanted.norm()) < 0.02


def test_a_plugin_by_itself_refuses_half_precision():
    quantized = RoundToNearest().insert(tiny_resnet(), _bits(), X[:1]).half()
    with pytest.raises(RequestError, match=r"float16: expected float32.*evalsuite\.quantize"):
        RoundToNearest().calibrate(quantized, X.half(), torch.Generator())


def _bits():
    from evalsuite.bits import BitPolicy

    return BitPolicy(8, 8)


def test_what_is_quantized_in_half_precision_is_saved_and_restored(tmp_path):
    model = tiny_resnet().half()
    quantized = quantize(model, X.half(), method="rtn")
    save(quantized, tmp_path / "model.safetensors")
    restored = load(tmp_path / "model.safetensors", model, X[:1].half())
    with torch.no_grad():
        assert torch.equal(quantized(X.half()), restored(X.half()))


@pytest.mark.parametrize("method", ["bn_adapt", "tent", "sar"])
def test_sync_batch_norm_is_batch_norm_of_one_process(method):
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(tiny_resnet())
    adapted, expected = adapt(synchronised, method, X), adapt(tiny_resnet(), method, X)
    for batch in X.split(8):
        assert torch.equal(adapted(batch), expected(batch))
    assert any(isinstance(module, nn.SyncBatchNorm) for module in synchronised.modules())
    folded = [quantize(one, X, method="rtn", fold_norm=True) for one in (synchronised, tiny_resnet())]
    with torch.no_grad():
        assert torch.equal(folded[0](X), folded[1](X))


@pytest.mark.parametrize("method", ["tent", "cotta", "rotta", "eata", "zoa", "bn_adapt"])
def test_adapters_learn_in_inference_mode(method):
    options = {"augmentations": 2} if method == "cotta" else {"min_batch": 8} if method == "zoa" else {}
    expected = adapt(tiny_resnet(), method, X, **options)
    wanted = [expected(batch) for batch in X.split(8)]
    with torch.inference_mode():
        adapted = adapt(tiny_resnet(), method, X * 1.0, **options)  # network and images are made in here as well
        found = [adapted(batch * 1.0) for batch in X.split(8)]
        adapted.reset()
        again = adapted(X[:8] * 1.0)
    for a, b in zip([*found, again], [*wanted, wanted[0]], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("method", ["brecq", "rtn", "ptq4vit"])
def test_quantizers_work_in_inference_mode(method, tmp_path):
    options = {"iterations": 3} if method == "brecq" else {"rows": 32, "candidates": 10} if method == "ptq4vit" else {}
    expected = quantize(tiny_resnet(), X, method=method, **options)
    with torch.inference_mode():
        model = tiny_resnet()
        quantized = quantize(model, X * 1.0, method=method, **options)
        save(quantized, tmp_path / "model.safetensors")
        restored = load(tmp_path / "model.safetensors", model, X[:1] * 1.0)
    with torch.no_grad():
        assert torch.equal(quantized(X), expected(X))
        assert torch.equal(restored(X), expected(X))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm, nn.utils.parametrizations.weight_norm])
def test_a_weight_that_is_computed_may_have_been_used(norm):
    def built() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            last = norm(nn.Linear(4 * 196, 5))
            return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), last).eval()

    model, fresh = built(), built()
    model(X[:4]).sum().backward()
    x = X[:8]
    assert torch.equal(adapt(model, "tent", x)(x), adapt(fresh, "tent", x)(x))
    assert torch.equal(quantize(model, x, method="rtn")(x), quantize(fresh, x, method="rtn")(x))


def test_tensors_that_a_network_kept_of_a_pass_are_let_go():
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.last = tiny_resnet(), {"features": []}

        def forward(self, x):
            out = self.inner(x)
            self.last["features"].append(out)
            return out

    model = Keeps()
    model(X)
    twin = plain_copy(model)
    assert torch.equal(twin.last["features"][0], model.last["features"][0])
    assert not twin.last["features"][0].requires_grad


def test_an_ordinary_network_is_taken_as_it_is():
    model = tiny_resnet()
    assert plain(model) is model
    with pytest.raises(RequestError, match=r"the model is a function: expected a torch\.nn\.Module"):
        adapt(lambda x: x, "tent", X)
    with pytest.raises(RequestError, match=r"the model is a dict: expected a torch\.nn\.Module"):
        quantize(dict(model.state_dict()), X)


@pytest.mark.parametrize(
    "images", [X.numpy(), X.double().numpy(), list(X), [image.numpy() for image in X], tuple(X), X.double()]
)
def test_images_in_any_floating_form_are_the_same_images(images):
    first = images[:8]
    assert torch.equal(adapt(tiny_resnet(), "tent", images)(first), adapt(tiny_resnet(), "tent", X)(X[:8]))
    fast = {"method": "rtn", "range": "minmax"}
    with torch.no_grad():
        assert torch.equal(quantize(tiny_resnet(), images, **fast)(X), quantize(tiny_resnet(), X, **fast)(X))


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (np.zeros((2, 3, 8, 8), np.uint8), "uint8; expected normalised floating"),
        (np.zeros((3, 8, 8), np.float32), r"\(3, 8, 8\); expected at least one image"),
        (np.array([["a"]]), "expected images"),
        ([np.zeros((3, 8, 8)), np.zeros((3, 9, 9))], r"expected images \(N, C, H, W\)"),
        ([], "list; expected at least one image"),
        (None, "NoneType; expected at least one image"),
        ("images.npy", "str; expected at least one image"),
        (iter([X]), "iterator; expected at least one image"),
    ],
)
def test_what_is_no_images_is_named(images, match):
    with pytest.raises(RequestError, match=f"calibration images: .*{match}"):
        quantize(tiny_resnet(), images, method="rtn")
    with pytest.raises(RequestError, match=f"source images: .*{match}"):
        adapt(tiny_resnet(), "tent", images)
    with pytest.raises(RequestError, match=f"batch 1: .*{match}"):
        adapt(tiny_resnet(), "none", X)(images)


def test_a_method_may_be_a_class_or_an_instance():
    plain_logits = adapt(tiny_resnet(), "tent", X, lr=0.01)(X)
    assert torch.equal(adapt(tiny_resnet(), Tent, X, lr=0.01)(X), plain_logits)
    assert torch.equal(adapt(tiny_resnet(), Tent(lr=0.01), X)(X), plain_logits)
    assert torch.equal(
        adapt(tiny_resnet(), BatchNormAdaptation(16), X)(X), adapt(tiny_resnet(), "bn_adapt", X, prior=16)(X)
    )
    quantized = [
        quantize(tiny_resnet(), X, method="rtn", range="minmax", per_channel=False),
        quantize(tiny_resnet(), X, method=RoundToNearest, range="minmax", per_channel=False),
        quantize(tiny_resnet(), X, method=RoundToNearest(range="minmax"), per_channel=False),
    ]
    assert len({one.recipe for one in quantized}) == 1


class Half:
    def insert(self, model, bits, example):
        return model


@pytest.mark.parametrize(
    ("method", "match"),
    [
        (lambda model, images: model, "expected the name of a quantizer"),
        (None, "expected the name of a quantizer"),
        (Tent, "expected the name of a quantizer"),
        (Half, "class or instance with insert and calibrate"),
        (nn.ReLU(), "class or instance with insert and calibrate"),
        (["rtn"], "class or instance with insert and calibrate"),
    ],
)
def test_what_is_no_method_is_named(method, match):
    with pytest.raises(RequestError, match=f"^method = .*{match}"):
        quantize(tiny_resnet(), X, method=method)


def test_a_class_that_nobody_could_import_again_is_refused():
    class Local(RoundToNearest):
        pass

    with pytest.raises(RequestError, match=r"Local cannot be imported; expected a class at the top of a module"):
        quantize(tiny_resnet(), X, method=Local)
    with pytest.raises(RequestError, match=r"^options range beside an instance of RoundToNearest"):
        quantize(tiny_resnet(), X, method=RoundToNearest(), range="mse")


def test_a_seed_without_a_fraction_is_an_integer():
    results = [adapt(tiny_resnet(), "zoa", X, seed=seed, min_batch=8) for seed in (7, 7.0, np.int64(7))]
    first, *others = [[adapted(X[:8]), adapted(X[8:])][1] for adapted in results]
    assert all(torch.equal(first, other) for other in others)
    for seed in (7.5, True, "7", None, float("nan")):
        with pytest.raises(RequestError, match=r"^seed = .*: expected an integer"):
            adapt(tiny_resnet(), "tent", X, seed=seed)
        with pytest.raises(RequestError, match=r"^seed = .*: expected an integer"):
            quantize(tiny_resnet(), X, method="rtn", seed=seed)
