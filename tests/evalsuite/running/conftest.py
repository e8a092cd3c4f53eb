import pytest
from _dummies.studies import execute, tiny

from evalsuite import store


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A run of the tiny study, which no test may change."""
    folder = tmp_path_factory.mktemp("run")
    outcome = execute(tiny(), folder)
    assert (outcome.done, outcome.failed, outcome.refused, outcome.reused) == (12, 0, 0, 0)
    return store.load(folder)
