"""Which published architectures can be quantized: torchvision's and timm's small classification networks.

python benchmarks/architectures.py [NAME]... [--method METHOD] [--out FILE.csv] [--before FILE.csv]

One small network a family, with random weights, by ``evalsuite.quantize`` at W8A8 on two images, ranges being the
extremes, which is fastest. Prints a row each:
ok, refused (with the reason) or failed (with the error). ``--before`` names the table of an earlier run; the exit
status is 1 if a network that was ok there is not any more.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from evalsuite import quantize
from evalsuite.errors import Refused
from evalsuite.torchvision_compat import import_torchvision

TORCHVISION = (
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3"),
    *("maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18"),
    *("resnet50", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11_bn"),
    "vit_b_32",
)
TIMM = (
    *("beit_base_patch16_224", "botnet26t_256", "halonet26t", "test_byobnet", "mobileone_s0", "cait_xxs24_224"),
    *("coat_tiny", "coat_lite_tiny", "convit_tiny", "convmixer_768_32", "test_convnext", "cpubone_nano"),
    *("crossvit_tiny_240", "cs3darknet_s", "cspnext_tiny", "davit_tiny", "deit_tiny_patch16_224"),
    *("deit_tiny_distilled_patch16_224", "densenet121", "dla34", "dpn68", "edgenext_x_small", "efficientformer_l1"),
    *("efficientformerv2_s0", "test_efficientnet", "efficientvim_m1", "efficientvit_b0", "efficientvit_m0"),
    *("eva02_tiny_patch14_224", "fasternet_t0", "fastvit_t8", "focalnet_tiny_srf", "gcvit_xxtiny", "ghostnet_050"),
    *("hardcorenas_a", "hgnetv2_b0", "hiera_tiny_224", "hrnet_w18_small", "iformer_t", "inception_next_atto"),
    *("inception_v3", "inception_v4", "lcnetv2_small", "levit_128s", "levit_conv_128s", "lowformer_b0"),
    *("test_mambaout", "test_coatnet", "test_maxvit", "poolformer_s12", "caformer_s18", "mixer_s16_224"),
    *("gmlp_ti16_224", "resmlp_12_224", "mobilenetv3_small_050", "mobilevit_xxs", "mobilevitv2_050", "mvitv2_tiny"),
    *("nest_tiny", "nextvit_small", "test_nfnet", "pit_ti_224", "pvt_v2_b0", "rdnet_tiny", "regnetx_002"),
    *("repghostnet_050", "repvit_m0_9", "res2net50_26w_4s", "resnest14d", "test_resnet", "resnetv2_18", "rexnet_100"),
    *("selecsls42", "legacy_seresnet18", "sequencer2d_s", "shvit_s1", "skresnet18", "starnet_s050"),
    *("swiftformer_xs", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "swinv2_cr_tiny_224"),
    *("tiny_vit_5m_224", "tnt_s_patch16_224", "tresnet_m", "twins_svt_small", "twins_pcpvt_small", "visformer_tiny"),
    *("test_vit", "vit_tiny_r_s16_p8_224", "test_vit_relpos", "vitamin_small_224", "volo_d1_224"),
    *("ese_vovnet19b_slim_dw", "legacy_xception", "xception41", "xcit_nano_12_p16_224"),
    *("tf_mobilenetv3_small_minimal_100", "eca_resnet33ts"),  # padded by the size of the input; Conv1d over channels
)
NAMES = (*(f"torchvision/{name}" for name in TORCHVISION), *(f"timm/{name}" for name in TIMM))
CLASSES = 10


@dataclass(frozen=True)
class Row:
    """What became of one network: ``ok``, ``refused`` or ``failed``, and why it is not ok."""

    name: str
    outcome: str
    reason: str = ""


def build(name: str) -> tuple[nn.Module, int]:
    """Return a network with random weights, in eval mode, and the side of its images. ``name``: LIBRARY/NETWORK."""
    library, _, network = name.partition("/")
    torch.manual_seed(0)
    torchvision = import_torchvision()
    if library == "torchvision":
        plain = {"init_weights": True} if network in ("googlenet", "inception_v3") else {}
        side = 299 if network == "inception_v3" else 224
        return torchvision.models.get_model(network, num_classes=CLASSES, **plain).eval(), side
    import timm

    model = timm.create_model(network, num_classes=CLASSES)
    return model.eval(), model.pretrained_cfg["input_size"][-1]


def outcome(name: str, method: str, images_count: int = 2) -> Row:
    """Quantize one network at W8A8 and run it."""
    try:
        model, side = build(name)
    except Exception as error:
        return Row(name, "absent", _line(error))
    images = torch.randn(images_count, 3, side, side, generator=torch.Generator().manual_seed(0))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logits = _logits(
                quantize(model, images, method=method, weight_bits=8, activation_bits=8, range="minmax"), images
            )
    except Refused as error:
        return Row(name, "refused", _line(error))
    except Exception as error:
        return Row(name, "failed", _line(error))
    sound = logits.shape == (images_count, CLASSES) and bool(logits.isfinite().all())
    return Row(name, "ok") if sound else Row(name, "failed", f"logits of shape {tuple(logits.shape)}, or not finite")


@torch.no_grad()
def _logits(model: nn.Module, images: Tensor) -> Tensor:
    logits: Tensor = model(images)
    return logits


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def outcomes(names: Iterable[str], method: str = "rtn") -> Iterator[Row]:
    """Yield a row for each network; prints how long it took to stderr."""
    for name in names:
        start = time.perf_counter()
        row = outcome(name, method)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        yield row


def lost(before: Iterable[Row], after: Iterable[Row]) -> list[Row]:
    """Return the rows of networks that are not ok and were."""
    worked = {row.name for row in before if row.outcome == "ok"}
    return [row for row in after if row.name in worked and row.outcome != "ok"]


def read(file: Path) -> list[Row]:
    with file.open(encoding="utf-8", newline="") as stream:
        return [Row(**fields) for fields in csv.DictReader(stream)]


def write(file: Path, rows: Iterable[Row]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(field.name for field in fields(Row))
        table.writerows(astuple(row) for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="LIBRARY/NETWORK; by default one of every family")
    parser.add_argument("--method", default="rtn", help="a quantizer")
    parser.add_argument("--out", type=Path, help="write the table to a CSV file")
    parser.add_argument("--before", type=Path, help="the table of an earlier run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for row in outcomes(arguments.names or NAMES, arguments.method):
        print(f"{row.name:45} {row.outcome:8} {row.reason}", flush=True)
        rows.append(row)
    for kind in sorted({row.outcome for row in rows}):
        print(f"{kind}: {sum(row.outcome == kind for row in rows)}")
    if arguments.out is not None:
        write(arguments.out, rows)
    worse = lost(read(arguments.before), rows) if arguments.before is not None else []
    for row in worse:
        print(f"was ok before: {row.name}: {row.outcome}: {row.reason}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
