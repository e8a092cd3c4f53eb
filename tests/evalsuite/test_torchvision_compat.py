from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from evalsuite.torchvision_compat import import_torchvision

ROOT = Path(__file__).parents[2]


def python(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, with folders put before the installed packages."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*paths, ROOT]))}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)


def fake(folder: Path, **sources: str) -> Path:
    """Write a package called torchvision."""
    package = folder / "torchvision"
    package.mkdir()
    for name, source in sources.items():
        (package / f"{name}.py").write_text(textwrap.dedent(source))
    return folder


def test_works_where_torchvision_alone_fails() -> None:
    done = python(
        """
        import sys
        from concurrent.futures import ThreadPoolExecutor
        try:
            import torchvision
        except RuntimeError as error:  # which leaves some of its modules behind
            print(error)
        else:
            sys.exit()
        from evalsuite.torchvision_compat import import_torchvision
        with ThreadPoolExecutor(4) as pool:
            modules = set(pool.map(lambda _: import_torchvision(), range(8)))
        import torch, torchvision, timm
        assert modules == {torchvision}
        from torchvision import datasets, transforms
        images = transforms.Resize(40)(torch.rand(2, 3, 64, 64))
        assert torchvision.models.resnet18().eval()(images).shape == (2, 1000)
        assert len(datasets.FakeData(3)) == 3
        assert timm.create_model("resnet18").num_classes == 1000
        try:
            torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
        except RuntimeError as error:
            assert "custom C++ ops" in str(error)
        else:
            raise SystemExit("nms ran")
        """
    )
    assert done.returncode == 0, done.stderr
    if not done.stdout:
        pytest.skip("torchvision imports by itself here")
    assert "does not exist" in done.stdout


def test_does_nothing_but_import_where_the_operators_load(tmp_path: Path) -> None:
    source = """
        import torch
        names = ["torchvision::nms"]
        def declared(): return [n for n in ("nms", "soft_nms") if hasattr(torch.ops.torchvision, n)]
        def unused(): torch.library.register_fake("torchvision::soft_nms")
    """
    code = """
        from evalsuite.torchvision_compat import import_torchvision
        module = import_torchvision()
        assert import_torchvision() is module
        print(module.__file__, module.declared())
    """
    done = python(code, fake(tmp_path, __init__=source))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "torchvision" / "__init__.py"), "[]"]


SHAPES = """
    import torch
    @torch.library.register_fake("torchvision::one")
    def one(x): return x
    @torch.library.register_fake(
        'torchvision::two'
    )
    def two(x): return x
"""


def test_a_failure_leaves_nothing_behind_and_whatever_is_asked_for_is_declared(tmp_path: Path) -> None:
    """One after the other in the same process, so that whatever was left behind would show."""
    failing = {"error": "raise RuntimeError('out of luck')", "used": "import torch; torch.ops.torchvision.nms"}
    for name in (*failing, "sound"):
        (tmp_path / name).mkdir()
    for name, last in failing.items():
        fake(tmp_path / name, __init__=f"from torchvision import part\n{last}", part="")
    fake(tmp_path / "sound", __init__="from torchvision import shapes", shapes=SHAPES)
    code = f"""
        import sys
        from evalsuite.torchvision_compat import import_torchvision
        for place in {[str(tmp_path / name) for name in failing]}:
            sys.path.insert(0, place)
            try:
                import_torchvision()
            except (RuntimeError, AttributeError) as error:
                print(type(error).__name__, error)
            print([name for name in sys.modules if name.startswith("torchvision")])
        sys.path.insert(0, {str(tmp_path / "sound")!r})
        print(import_torchvision().shapes.two(3))
    """
    done = python(code)
    assert done.returncode == 0, done.stderr
    first, left, second, left_again, declared = done.stdout.splitlines()
    assert first == "RuntimeError out of luck"
    assert second.startswith("AttributeError ")
    assert left == left_again == "[]"
    assert declared == "3"


def test_here() -> None:
    assert import_torchvision() is sys.modules["torchvision"]
    assert import_torchvision().models.resnet18
