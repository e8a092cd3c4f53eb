"""What is shown, in sentences."""
