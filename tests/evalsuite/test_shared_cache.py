import os
import threading

import pytest

from evalsuite.shared_cache import shared_cache, sharing


def test_a_folder_is_handed_on_for_a_while_and_goes_before_the_users(tmp_path, monkeypatch):
    monkeypatch.delenv("EVALSUITE_CACHE", raising=False)
    assert shared_cache() is None
    with sharing(tmp_path / "run"):
        assert shared_cache() == tmp_path / "run"
        with sharing(None):
            assert shared_cache() == tmp_path / "run"
        assert "EVALSUITE_CACHE" not in os.environ
        monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "user"))
        assert shared_cache() == tmp_path / "run"
    assert shared_cache() == tmp_path / "user"


def test_it_is_forgotten_after_a_fault_and_no_other_thread_sees_it(tmp_path, monkeypatch):
    monkeypatch.delenv("EVALSUITE_CACHE", raising=False)
    seen = []

    def fails():
        thread = threading.Thread(target=lambda: seen.append(shared_cache()))
        thread.start()
        thread.join()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), sharing(tmp_path):
        fails()
    assert shared_cache() is None
    assert seen == [None]
