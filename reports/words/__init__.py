"""What is shown, in sentences: verdict, answers, adapters, audit, jitter; ``numbers`` says how a number is written."""
