"""What is asked: settings, the file that says so, trials and their identity, labels, cost."""
