import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evalsuite import environment
from evalsuite.environment import (
    available_cores,
    busy_cores,
    hardware,
    keep_freed_memory,
    threads_per_worker,
)

GIVEN_BACK = """
import resource
import sys
from pathlib import Path
import torch
from evalsuite.environment import keep_freed_memory
assert sys.argv[1] != "keep" or keep_freed_memory()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
tensor = torch.ones(25_000_000)
before = resident()
del tensor
print(before - resident())
"""


def given_back(how):
    """Bytes that leave the process when a tensor of 100 MB is freed."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", GIVEN_BACK, how], env=plain, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_freed_memory_is_kept():
    assert given_back("keep") < 10e6
    assert given_back("as is") > 90e6


def test_an_allocator_that_the_user_has_set_is_left_alone(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    assert not keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processes are not bound to cores here")
def test_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {5})
    assert available_cores() == 1
    assert hardware("cpu", 1)["cores"] == 1


def test_without_a_way_to_ask_all_cores_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setitem(sys.modules, "psutil", None)  # another way, where it is installed
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert available_cores() == 7


@pytest.mark.parametrize(("chosen", "threads"), [("3", 3), ("4,2", 4), (" 1 ", 1)])
def test_the_users_number_of_threads_is_honoured(monkeypatch, chosen, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    assert threads_per_worker(1) == threads_per_worker(8) == threads


@pytest.mark.parametrize(
    ("cores", "busy", "workers", "threads"),
    [(8, 0, 1, 8), (8, 0, 2, 4), (8, 3, 1, 5), (8, 3, 2, 2), (2, 1, 1, 1), (2, 2, 1, 1), (4, 0, 9, 1), (4, 4, 4, 1)],
)
def test_threads_share_the_cores_that_nobody_holds(monkeypatch, cores, busy, workers, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(environment, "available_cores", lambda: cores)
    monkeypatch.setattr(environment, "busy_cores", lambda: busy)
    assert threads_per_worker(workers) == threads


@pytest.mark.parametrize("chosen", ["", "0", "-1", "many"])
def test_a_number_of_threads_that_says_nothing_is_passed_over(monkeypatch, chosen):
    monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    monkeypatch.setattr(environment, "available_cores", lambda: 6)
    monkeypatch.setattr(environment, "busy_cores", lambda: 0)
    assert threads_per_worker(1) == 6


@pytest.mark.skipif(platform.system() != "Linux", reason="only Linux says how long each core was idle")
def test_a_core_that_somebody_holds_is_busy(monkeypatch):
    core = min(os.sched_getaffinity(0))
    with subprocess.Popen(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"]
    ) as other:
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: {core})
        try:
            time.sleep(1)
            assert busy_cores() == 1
        finally:
            other.kill()


def test_where_the_system_does_not_say_no_core_is_busy(monkeypatch):
    monkeypatch.setattr(environment, "Path", lambda name: Path("/nowhere") / name.lstrip("/"))
    assert busy_cores(0.0) == 0


def spins_of(**variables):
    """GOMP_SPINCOUNT in a fresh process of the command line, and whether torch was imported before it was set."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    code = (
        "import sys, os, evalsuite.environment as e; early = 'torch' in sys.modules\n"
        "import evalsuite.cli; early = early or 'torch' in sys.modules\n"
        "e.wait_briefly(); print(os.environ.get('GOMP_SPINCOUNT'), early)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=plain | variables, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_threads_wait_briefly_unless_the_user_says_how():
    assert spins_of() == ["10000", "False"]
    assert spins_of(OMP_WAIT_POLICY="ACTIVE") == ["None", "False"]
    assert spins_of(GOMP_SPINCOUNT="7") == ["7", "False"]


def test_what_hides_our_own_packages_is_found(tmp_path, monkeypatch):
    assert [environment.hiding(name) for name in environment.OWN_PACKAGES] == [None, None]
    assert environment.hiding("no_such_package") is None
    (tmp_path / "protocols").mkdir()
    (tmp_path / "protocols" / "__init__.py").write_text("")
    monkeypatch.delitem(sys.modules, "protocols", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert environment.hiding("protocols") == tmp_path / "protocols"
    assert environment.hiding("reports") is None
