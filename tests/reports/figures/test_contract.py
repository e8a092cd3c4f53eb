"""Every registered figure keeps the contract that third parties are checked by."""

import pytest

from evalsuite import registry, testing


@pytest.mark.parametrize("name", registry.names("figures"))
def test_figures(name, study_run):
    testing.check_figure(name, study_run)
