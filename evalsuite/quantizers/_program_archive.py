"""Reading a ``torch.export`` archive without running anything of it.

``torch.export.load`` unpickles weights, constants and sample inputs, and turns texts of the archive into Python code:
guards, names of inputs, symbolic sizes, types of containers. So it is never given the file. It is given an archive that
is written here from what was read: tensors as plain bytes, a graph whose every text is a name, a size or an operation
of torch's own, and nothing else. Ours.
"""

from __future__ import annotations

import importlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import torch

from evalsuite.errors import RequestError

EXPECTED = "what torch.export.save of torch 2.8 or later writes of a network"
_MODEL, _SAMPLES = "models/model.json", "data/sample_inputs/model.pt"
_TENSORS = {"data/weights/": "weight_", "data/constants/": "tensor_"}
_COMPILED = ("data/aotinductor/", "data/executorch/", "data/mtia/")
_LEAF: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
_ONE_TENSOR = json.dumps(  # a call with one positional argument
    [
        1,
        {
            "type": "builtins.tuple",
            "context": "null",
            "children_spec": [
                {"type": "builtins.tuple", "context": "null", "children_spec": [_LEAF]},
                {"type": "builtins.dict", "context": "[]", "children_spec": []},
            ],
        },
    ]
)
_NAME = re.compile(r"(?!__)[\w-]*(\.(?!__)[\w-]+)*", re.ASCII)
_TEXT = re.compile(r"[\w ,.>-]{0,100}", re.ASCII)  # an operation's argument, "bilinear" for example
_SIZE = re.compile(  # sums and products of symbols, as sympy writes them for people or for itself
    r"(?:[a-z]++\d++|-?\d++|Symbol\('[a-z]+\d+'(?:, [a-z]+=(?:True|False))*\)|Integer|Add|Mul|FloorDiv|ModularIndexing"
    r"|PythonMod|Mod|CleanDiv|CeilDiv|Max|Min|\+|-|\*(?!\*)|/|\(|\)|,| )*+",
    re.ASCII,
)
_OPERATION = re.compile(r"torch\.ops\.(\w+)\.(?!_*from_file)\w+\.[a-zA-Z]\w*", re.ASCII)
_ARITHMETIC = re.compile(  # of sizes; the module has functions that call others
    r"_operator\.(add|sub|mul|floordiv|truediv|mod|neg|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem)|math\.(ceil|floor|trunc)"
)
_CONTEXTS = ("torch.ops.higher_order.wrap_with_set_grad_enabled", "torch.ops.higher_order.wrap_with_autocast")
_CONTEXT_NAMES = tuple(name.rpartition(".")[2] for name in _CONTEXTS)
# Namespaces of operations, with what registers them.
_LIBRARIES = {
    "aten": "torch",
    "prims": "torch",
    "quantized_decomposed": "torch.ao.quantization.fx._decomposed",
    "onednn": "torch",
    "torchao": "torchao",
}
_OBJECTS = frozenset({"as_custom_obj", "as_operator", "custom_obj"})


def read_program(content: bytes, what: str) -> tuple[Any, Any]:
    """Return the ``torch.export.ExportedProgram`` of an archive, and its module; ``what`` it is, for errors.

    Raises
    ------
    RequestError
        If it cannot be read, holds anything but a graph of torch's own operations and plain tensors, or is no network
        with one input and one output.
    """
    try:
        files = _files(content)
        plain = _rewritten(files)
    except RequestError as error:
        raise RequestError(f"{what} {error}: expected {EXPECTED}") from error
    except Exception as error:  # of damaged bytes every reader makes what it likes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RequestError(f"{what} cannot be read ({type(error).__name__}: {reason}): expected {EXPECTED}") from error
    try:
        program = torch.export.load(io.BytesIO(plain))
    except Exception as error:
        raise RequestError(f"{what} cannot be loaded by torch {torch.__version__}: {_first_line(error)}") from error
    for node in _calls(program.graph_module):
        if not _harmless(node.target):
            raise RequestError(f"{what} calls {node.target}: expected operations of torch's own alone")
    try:
        return program, program.module()
    except Exception as error:  # of names that Python keeps for itself, for example
        raise RequestError(f"{what} cannot be run by torch {torch.__version__}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _files(content: bytes) -> dict[str, bytes]:
    """Return the files of an archive by their names below its root."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        names = [member.filename.partition("/")[2] for member in members]
        if len(set(names)) != len(names):
            raise RequestError("holds a file twice")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise RequestError("is compressed")
        if _MODEL not in names:
            raise RequestError("holds no graph")
        if any(name.startswith(_COMPILED) for name in names):
            raise RequestError("holds compiled code, which loading would run")
        return {name: archive.read(member) for name, member in zip(names, members, strict=True)}


def _rewritten(files: dict[str, bytes]) -> bytes:
    """Return an archive of what is safe in another one."""
    if files.get("byteorder", b"little") != b"little":
        raise RequestError("has its bytes in the other order")
    safe = {name: files[name] for name in ("archive_format", "archive_version")}
    safe |= {"byteorder": b"little", ".data/version": b"6\n", _SAMPLES: b""}
    safe[_MODEL] = json.dumps(_graph(json.loads(files[_MODEL]))).encode()
    for folder, prefix in _TENSORS.items():
        name = f"{folder}model_{folder.split('/')[1]}_config.json"
        config = json.loads(files[name])["config"]
        safe[name] = json.dumps(
            {"config": {key: _tensor(key, value, prefix) for key, value in config.items()}}
        ).encode()
        safe |= {path: files[path] for path in {folder + value["path_name"] for value in config.values()}}
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
        for name, data in safe.items():
            archive.writestr(f"program/{name}", data)
    return written.getvalue()


def _tensor(name: str, value: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return the entry of a tensor that lies in plain bytes."""
    if value["use_pickle"] or not re.fullmatch(rf"{prefix}\d+", value["path_name"], re.ASCII):
        raise RequestError(f"holds {name!r} as a Python object, which loading would run")
    _check_names({name: value})
    return value


def _graph(model: dict[str, Any]) -> dict[str, Any]:
    """Return a graph without its notes and guards, each of whose texts is a name."""
    module = model["graph_module"]
    signature = module["signature"]
    given = [spec["user_input"]["arg"] for spec in signature["input_specs"] if "user_input" in spec]
    found = [spec["user_output"]["arg"] for spec in signature["output_specs"] if "user_output" in spec]
    if [*map(list, given)] != [["as_tensor"]] or [*map(list, found)] != [["as_tensor"]]:
        raise RequestError(f"has {len(given)} inputs and {len(found)} outputs, where a network has one tensor each")
    root = next(entry for entry in module["module_call_graph"] if entry["fqn"] == "")
    calls = {**root["signature"], "in_spec": "", "out_spec": "", "forward_arg_names": ["images"]}
    module = {
        "graph": _without_notes(module["graph"]),
        "signature": signature,
        "module_call_graph": [{"fqn": "", "signature": calls}],
        "metadata": {},
        "treespec_namedtuple_fields": {},
    }
    kept = {"graph_module": module, "guards_code": [], "torch_version": ""}
    kept |= {name: model[name] for name in ("opset_version", "range_constraints", "schema_version", "verifiers")}
    _check_names(kept)
    calls |= {"in_spec": _ONE_TENSOR, "out_spec": json.dumps([1, _LEAF])}
    return {**kept, "torch_version": torch.__version__}


def _without_notes(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: {} if name == "metadata" else _without_notes(part) for name, part in value.items()}
    return [_without_notes(part) for part in value] if isinstance(value, list) else value


def _check_names(value: Any, key: str = "") -> None:
    """Raise RequestError for a text that is no name, size, operation or argument, as the key before it says."""
    if isinstance(value, dict):
        if _OBJECTS & value.keys():
            raise RequestError("holds a Python object, which loading would run")
        for name, part in value.items():
            _check_names(name, "name")
            _check_names(part, name)
    elif isinstance(value, list):
        for part in value:
            _check_names(part, key)
    elif isinstance(value, str) and not _KINDS.get(key, _is_name)(value):
        raise RequestError(f"has the {key or 'text'} {value[:80]!r}, which torch might run as code")


def _is_name(text: str) -> bool:
    return bool(_NAME.fullmatch(text))


def _is_operation(text: str) -> bool:
    if text in _CONTEXTS or _ARITHMETIC.fullmatch(text):
        return True
    match = _OPERATION.fullmatch(text)
    if match is None or match[1] not in _LIBRARIES:
        return False
    library = _LIBRARIES[match[1]]
    try:
        importlib.import_module(library)
    except ImportError as error:
        raise RequestError(f"calls {text}, which needs the package {library.partition('.')[0]}") from error
    return True


_KINDS: dict[str, Callable[[str], bool]] = {
    "target": _is_operation,
    "expr_str": lambda text: bool(_SIZE.fullmatch(text)),
    "as_string": lambda text: bool(_TEXT.fullmatch(text)),
    "as_strings": lambda text: bool(_TEXT.fullmatch(text)),
}


def _calls(module: torch.fx.GraphModule) -> Iterator[Any]:
    for part in module.modules():
        if isinstance(part, torch.fx.GraphModule):
            yield from (node for node in part.graph.nodes if node.op.startswith("call_"))


def _harmless(target: Any) -> bool:
    """Whether a graph's call is one of torch's operations, or of numbers."""
    if isinstance(target, torch._ops.OpOverload):
        return target.namespace in _LIBRARIES
    if isinstance(target, torch._ops.HigherOrderOperator):
        return str(target) in _CONTEXT_NAMES
    return getattr(target, "__module__", "") in ("_operator", "math")
