"""What is asked: calibration-set shifts, orders of test domains, and studies. Copy a file and edit it."""
