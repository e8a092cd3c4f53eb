import numpy as np
import pandas as pd

from reports.words.jitter import jitter_note


def test_the_largest_jitter_is_said_with_its_network_and_nothing_where_none_was_measured():
    summary = pd.DataFrame(
        {
            "quantizer_label": ["a W8A8", "b W4A4", "c W4A4"],
            "adapter_label": ["none", "bn_adapt", "tent"],
            "jitter_flip_rate": [0.001, 0.042, np.nan],
            "jitter_error": [0.006, 0.003, np.nan],
        }
    )
    (note,) = jitter_note(summary)
    assert "up to 4.2 % of a network's predictions change (b W4A4 under bn_adapt)" in note
    assert "by up to 0.6 points (standard deviation; a W8A8 under none)" in note
    assert jitter_note(summary.iloc[2:]) == []
