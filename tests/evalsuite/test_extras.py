import importlib
import sys

import pytest

from evalsuite.adapters.foa import FOA
from evalsuite.errors import RequestError
from evalsuite.extras import import_extra
from evalsuite.quantizers.onnxruntime import ONNXRuntime
from evalsuite.tasks._timm_networks import import_timm


def test_returns_the_module_asked_for():
    assert import_extra("json.decoder", "any", "a test") is sys.modules["json.decoder"]


def test_a_missing_package_is_named_with_the_extra_that_brings_it():
    with pytest.raises(RequestError, match=r"^adapter 'mine' needs the package not_there,.*evalsuite\[mine\]"):
        import_extra("not_there.inside", "mine", "adapter 'mine'")


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [
        ("timm", "timm", import_timm),
        ("onnxruntime", "onnx", lambda: ONNXRuntime().insert(None, None, None)),
        ("cma", "foa", lambda: importlib.import_module(FOA.__module__)._evolution(3, 1.0, 4, None)),
    ],
)
def test_every_extra_is_asked_for_by_name_where_it_is_missing(monkeypatch, package, extra, use):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RequestError, match=rf"needs the package {package}, .*'evalsuite\[{extra}\]'"):
        use()
