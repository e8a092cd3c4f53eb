"""What is shown, as frames."""
