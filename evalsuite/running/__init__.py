"""What happens in a run: harness, workers, workspace, task data, calibration sets, quantized models, images."""
