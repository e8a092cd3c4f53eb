"""A small process that outlives the one that drives a run, and ends what workers have started where that was killed.

Workers end with their driver by themselves; programs that a trial started do not know of it.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
import tempfile

from evalsuite.running.system import end_marked

TOKEN = "EVALSUITE_WORKER"
"""Variable by which all that a process starts is known as its own."""
_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from evalsuite.running.guardian import wait; wait()"


class Guardian:
    """Waits for this process to end without having closed it.

    Attributes
    ----------
    token : what the variable :data:`TOKEN` begins with in all that is then ended.
    temporary : folder that is then removed.
    """

    def __init__(self) -> None:
        self.token, self.temporary = secrets.token_hex(16), tempfile.mkdtemp(prefix="evalsuite-worker-")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path), self.token, self.temporary],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what a terminal sends to the run's processes is not for it
        )

    def close(self) -> None:
        """End it: the run's process has ended its workers itself, with what they started."""
        self._process.kill()
        self._process.communicate()
        shutil.rmtree(self.temporary, ignore_errors=True)


def wait() -> None:
    """Wait for the end of standard input, then end what carries the mark and remove the folder."""
    token, temporary = sys.argv[2:4]
    while sys.stdin.buffer.read(2**10):
        pass
    end_marked(TOKEN, token)
    shutil.rmtree(temporary, ignore_errors=True)
