"""What an audit may be pointed at: a method by its name or class, or a network that somebody quantized already.

A network is measured through a quantizer whose options name the file and the digest of what is in it, so that another
file under the same name is another trial. Of a Python file the code is run; of no other file anything is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite import registry
from evalsuite.bits import BitPolicy
from evalsuite.errors import ReasonCode, RequestError
from evalsuite.hashing import digest_bytes
from evalsuite.quantization.saving import recipe_in
from evalsuite.quantizers._given import content_of
from evalsuite.quantizers._program_archive import EXPECTED as EXPORTED
from evalsuite.quantizers._program_archive import read_program
from evalsuite.quantizers.exported_program import ExportedProgram
from evalsuite.quantizers.onnx_model import ONNXModel, is_quantized, onnx_content
from evalsuite.quantizers.python_network import PythonNetwork, file_and_name, loaded, made_digest
from evalsuite.quantizers.saved_network import EXPECTED as SAVED
from evalsuite.quantizers.saved_network import SavedNetwork
from evalsuite.running.workers import Limits, Workers
from evalsuite.running.workspace import Workspace

_CALIBRATION = (
    "Calibration was not measured, neither its draws nor its shift: the network comes quantized and sees no "
    "calibration image."
)
_BITS = (
    "Bit widths are taken as they were named: how many levels weights and activations take is not seen from outside."
)
_LAYERS = "Adapters that move norms or other layers were not measured: they refuse a network whose layers are not seen."
_ENGINE_BITS = "Other widths than W8A8 were not measured: ONNX Runtime quantizes to 8 bits."
_SAVED_BITS = "Other widths than {bits} were not measured: the file holds the network at these."
_HIDDEN = (_CALIBRATION, _BITS, _LAYERS)


@dataclass(frozen=True)
class Target:
    """What an audit is about.

    Attributes
    ----------
    setting : the quantizer that is measured.
    label : what it is called: a method's name, or a network's file.
    source_digest : of the file that it comes from; empty for a method that is installed.
    is_network : whether it is a network, quantized already or by its engine, not a method.
    needs_code : whether code of a Python file is run.
    bits : the bit widths that a network comes with, where they are known; other ones are refused.
    left_out : in a sentence each, what cannot be measured of it.
    """

    setting: registry.Setting
    label: str
    source_digest: str = ""
    is_network: bool = False
    needs_code: bool = False
    bits: BitPolicy | None = None
    left_out: tuple[str, ...] = ()


def runs_code(text: str) -> bool:
    """Whether :func:`target_of` would run a Python file."""
    return text.rpartition(":")[0].endswith(".py")


def rehearse(text: str, limits: Limits | None = None) -> None:
    """Run a user's Python file in a process of its own, before :func:`target_of` does so in this one.

    Raises
    ------
    RequestError
        If it ends its process, leaves something running, or takes more than ``limits``. What else is wrong with it
        :func:`target_of` says.
    """
    if not runs_code(text):
        return
    with tempfile.TemporaryDirectory() as folder, Workers(1, Workspace(Path(folder)), limits) as pool:
        ((_, failure),) = list(pool.run(_run_file, [[text]]))
    if failure is not None and failure.code not in (ReasonCode.WRONG_REQUEST, ReasonCode.PLUGIN_ERROR):
        raise RequestError(f"{text} cannot be imported: {failure.reason}")


def _run_file(text: str, workspace: Workspace, kept: dict[str, Any]) -> None:
    registry.load_path(text, "NAME")


def target_of(text: str, options: Mapping[str, Any] | None = None) -> Target:
    """Return what a user names.

    Parameters
    ----------
    text : a quantizer's name, ``package.module:Class``, ``path.py:Class``; or a network: ``path.onnx``, ``path.pt2``,
        ``path.safetensors`` (saved by evalsuite), ``path.py:function`` (images -> logits) or ``path.py:module`` (a
        torch.nn.Module).
    options : of the quantizer.

    Raises
    ------
    RequestError
        If there is no such thing, it cannot be read, or an option is wrong.
    """
    given = dict(options or {})
    reader = _READERS.get(Path(text).suffix.lower())
    if reader is not None:
        return reader(str(Path(text).absolute()), given)
    if runs_code(text) and not isinstance(registry.load_path(text, "NAME"), type):
        where, _, name = text.rpartition(":")
        return _python(f"{Path(where).absolute()}:{name}", given)
    setting = registry.configure("quantizers", text, given)
    return Target(setting, setting.name.rpartition(":")[2], setting.source, needs_code=runs_code(text))


def _python(path: str, options: dict[str, Any]) -> Target:
    found = made_digest(path, loaded(path))
    setting = _setting(PythonNetwork, options, path, found)
    return Target(setting, file_and_name(path), found, is_network=True, needs_code=True, left_out=_HIDDEN)


def _onnx(path: str, options: dict[str, Any]) -> Target:
    content = onnx_content(path)
    found = digest_bytes(content)
    setting, label = _setting(ONNXModel, options, path, found), Path(path).name
    if is_quantized(content):
        return Target(setting, label, found, is_network=True, left_out=_HIDDEN)
    return Target(setting, label, found, is_network=True, bits=BitPolicy(8, 8), left_out=(_ENGINE_BITS, _LAYERS))


def _exported(path: str, options: dict[str, Any]) -> Target:
    content = content_of(path, "", EXPORTED)
    read_program(content, path)
    found = digest_bytes(content)
    setting = _setting(ExportedProgram, options, path, found)
    return Target(setting, Path(path).name, found, is_network=True, left_out=_HIDDEN)


def _saved(path: str, options: dict[str, Any]) -> Target:
    found = digest_bytes(content_of(path, "", SAVED))
    bits = recipe_in(Path(path)).bits
    setting, left_out = _setting(SavedNetwork, options, path, found), (_CALIBRATION, _SAVED_BITS.format(bits=bits))
    return Target(setting, Path(path).name, found, is_network=True, bits=bits, left_out=left_out)


def _setting(cls: type[Any], options: dict[str, Any], path: str, digest: str) -> registry.Setting:
    name, _ = registry.named("quantizers", cls, {})
    return registry.configure("quantizers", name, {**options, "path": path, "digest": digest})


_READERS: dict[str, Callable[[str, dict[str, Any]], Target]] = {
    ".onnx": _onnx,
    ".pt2": _exported,
    ".safetensors": _saved,
}
