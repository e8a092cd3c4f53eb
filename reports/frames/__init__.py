"""What is shown, as frames.

The evidence of a run arranged by question.
"""
