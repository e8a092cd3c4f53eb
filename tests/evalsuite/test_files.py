import json

import pytest

from evalsuite.files import replacing, write_json


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    file = tmp_path / "deep" / "result.json"
    write_json(file, {"a": 1})

    def fail_halfway():
        with replacing(file) as temporary:
            temporary.write_text("half of")
            raise RuntimeError("half")

    with pytest.raises(RuntimeError, match="half"):
        fail_halfway()
    assert json.loads(file.read_text()) == {"a": 1}
    assert list(file.parent.iterdir()) == [file]


def test_nan_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", float("nan"))
    assert not list(tmp_path.iterdir())
