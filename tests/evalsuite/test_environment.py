import os
import platform
import subprocess
import sys

import pytest

from evalsuite.environment import available_cores, hardware, keep_freed_memory

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
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert available_cores() == 7
