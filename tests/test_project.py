"""What the project's own files say of each other."""

import ast
import importlib.metadata
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import evalsuite

ROOT = Path(__file__).parents[1]
PACKAGES = ("evalsuite", "protocols", "reports")
DISTRIBUTIONS = {
    "cv2": "opencv-python",
    "PIL": "pillow",
    "mlflow": "mlflow-skinny",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}
EXTRAS = ("dask", "foa", "mlflow", "onnx", "openvino", "ray", "tensorboard", "timm")


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def names(requirements):
    return {re.split(r"[^\w.-]", requirement)[0].replace("_", "-") for requirement in requirements}


def imported():
    """Yield the top-level packages that an import statement or ``import_extra`` of ours names."""
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                match node:
                    case ast.Import(names=aliases):
                        yield from (alias.name.partition(".")[0] for alias in aliases)
                    case ast.ImportFrom(module=str(module), level=0):
                        yield module.partition(".")[0]
                    case ast.Call(func=ast.Name(id="import_extra"), args=[ast.Constant(value=str(module)), *_]):
                        yield module.partition(".")[0]


def test_every_package_that_is_imported_is_a_declared_dependency(project):
    declared = names(project["dependencies"]).union(*(names(project["optional-dependencies"][e]) for e in EXTRAS))
    outside = {name for name in imported() if name not in sys.stdlib_module_names | set(PACKAGES)}
    assert len(outside) > 15
    assert {DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in outside} - declared == set()


def test_every_declared_dependency_is_imported_or_brings_what_is(project):
    used = {DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in imported()}
    assert names(project["dependencies"]) - used <= {
        "imagecorruptions",
        "torchvision",
    }  # imported by name


def test_every_dependency_has_a_lower_bound(project):
    groups = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in EXTRAS)]
    assert [each for group in groups for each in group if ">=" not in each] == []


def test_the_version_stands_in_one_place():
    assert importlib.metadata.version("evalsuite") == evalsuite.__version__
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited is not None
    assert cited[1].strip('"') == evalsuite.__version__


def workflows():
    files = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert len(files) >= 2
    return {file.name: yaml.safe_load(file.read_text(encoding="utf-8")) for file in files}


def test_workflows_run_targets_that_the_makefile_has(project):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    steps = [step for each in workflows().values() for job in each["jobs"].values() for step in job["steps"]]
    asked = [target for step in steps for target in re.findall(r"\bmake ([\w-]+)", step.get("run", ""))]
    assert {"test", "package"} <= set(asked) <= targets
    assert all(("run" in step) != ("uses" in step) for step in steps)
    least = re.search(r">=(\d+)\.(\d+)", project["requires-python"])
    versions = workflows()["tests.yml"]["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert versions[0] == f"{least[1]}.{least[2]}"


def test_the_image_is_made_of_files_that_are_there():
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    instructions = [line for line in lines if line and line[0].isupper()]
    assert [line.split()[0] for line in instructions if line.split()[0] != "ARG"][:1] == ["FROM"]
    assert "constraints.txt" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert (ROOT / "constraints.txt").is_file()
    command = json.loads(next(line.removeprefix("CMD ") for line in instructions if line.startswith("CMD ")))
    assert command[:2] == ["run", "quick"]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".git", "runs"} <= set(ignored)
    assert not {"evalsuite", "protocols", "reports"} & set(ignored)
