"""What PTQ costs DeiT-Tiny on the ImageNet sample: full precision against ptq4vit, repq_vit and rtn.

Accuracy on the task's 800 test images, calibrated with 32 images of its pool, which holds none of them.

python benchmarks/deit.py [--data-root DIR] [--images N] [METHOD:W6A6 ...]
"""

import argparse
import os
import time

import torch
from torch import Tensor, nn

from evalsuite import quantize
from evalsuite.materials import normalise, task_data, task_model
from evalsuite.quantization.apply import layer_report
from evalsuite.quantization.policy import parse_bits

TASK = "imagenet/deit_tiny"
CALIBRATION = 32
BATCH = 50
CASES = ["rtn:W8A8", "rtn:W6A6", "rtn:W4A4"]
CASES += [f"{method}:{bits}" for method in ("ptq4vit", "repq_vit") for bits in ("W8A8", "W6A6", "W4A4")]


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([model(batch).argmax(dim=1) for batch in images.split(BATCH)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=CASES, help="method:bits, for example ptq4vit:W6A6")
    parser.add_argument("--data-root", default=os.environ.get("EVALSUITE_DATA"))
    parser.add_argument("--images", type=int, default=800)
    arguments = parser.parse_args()
    data = task_data(TASK, arguments.data_root)
    plain = task_model(TASK, arguments.data_root)
    images = normalise(data.test_images[: arguments.images], data)
    labels = torch.from_numpy(data.test_labels[: arguments.images])
    calibration = normalise(data.pool_images[:CALIBRATION], data)
    expected = predict(plain, images)
    full = 100 * (expected == labels).float().mean().item()
    print(f"{TASK}, {len(images)} test images, {torch.get_num_threads()} threads: full precision {full:.2f} %")
    print("method     bits   top-1    drop  same as full precision  calibration  least SNR of a layer")
    for case in arguments.cases:
        method, bits = case.split(":")
        weight_bits, activation_bits = parse_bits(bits)
        start = time.perf_counter()
        quantized = quantize(
            plain, calibration, method=method, weight_bits=weight_bits, activation_bits=activation_bits
        )
        seconds = time.perf_counter() - start
        predicted = predict(quantized, images)
        accuracy = 100 * (predicted == labels).float().mean().item()
        same = 100 * (predicted == expected).float().mean().item()
        report = layer_report(plain, quantized, calibration[:8])
        worst = report.loc[report["snr_db"].idxmin()]
        print(
            f"{method:10} {bits:5} {accuracy:6.2f} {full - accuracy:7.2f} {same:22.1f} % {seconds:9.0f} s"
            f"  {worst['snr_db']:.1f} dB {worst['layer']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
