"""Kept where documents promise it; lives in :mod:`evalsuite.running.stream_files`."""

from evalsuite.running.stream_files import write_streams as write_streams
