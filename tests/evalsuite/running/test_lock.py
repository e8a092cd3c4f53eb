import io
import subprocess
import sys

import pytest
from _dummies.studies import QUIET, tiny
from rich.console import Console

from evalsuite.errors import RequestError
from evalsuite.running import lock
from evalsuite.running.harness import execute
from evalsuite.running.lock import RunLock

HOLDER = """
import sys
from pathlib import Path
from rich.console import Console
from _dummies.studies import tiny
from evalsuite.running.lock import RunLock
with RunLock(Path(sys.argv[1]), tiny(name=sys.argv[2]), None, Console(stderr=True)) as mine:
    mine.take()
    print("held", flush=True)
    sys.stdin.read()
"""


def take(folder, study, console=QUIET):
    with RunLock(folder, study, None, console) as mine:
        mine.take()


@pytest.fixture
def holder(tmp_path):
    """A process that holds a folder for a study, until it is ended."""
    started = []

    def start(name):
        command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{HOLDER}", str(tmp_path), name]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_another_study_is_refused_by_name_until_the_process_ends_however_it_does(holder, tmp_path):
    process = holder("theirs")
    with pytest.raises(RequestError, match=f"process {process.pid} on .*, which runs study theirs since .*--out"):
        execute(tiny(name="ours"), tmp_path, console=QUIET, in_process=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".lock"], "nothing is half-written"
    process.kill()
    process.wait()
    assert execute(tiny(name="ours"), tmp_path, console=QUIET, in_process=True).done


def test_calls_of_one_study_work_side_by_side_and_each_keeps_others_out(holder, tmp_path):
    first, second = holder("one"), holder("one")
    first.kill()
    first.wait()
    with pytest.raises(RequestError, match="runs study one"):
        take(tmp_path, tiny(name="other"))
    second.kill()
    second.wait()
    take(tmp_path, tiny(name="other"))


def test_what_the_file_says_is_not_trusted(holder, tmp_path):
    holder("theirs")
    for content in (b"", b"{", b"[1]", b'{"name": "\\u001b[31m", "process": [1e999]}'):
        (tmp_path / lock.LOCK).write_bytes(content)
        with pytest.raises(RequestError) as raised:
            take(tmp_path, tiny(name="other"))
        assert str(raised.value).isprintable()


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / lock.LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RequestError, match="cannot write to"):
        take(tmp_path, tiny())
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(lock.fcntl, "lockf", refuse)
    said = io.StringIO()
    take(tmp_path, tiny(), Console(file=said, width=500))
    assert "keeps no locks" in said.getvalue()
