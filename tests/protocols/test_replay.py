import numpy as np
import pytest

from evalsuite.errors import RequestError
from evalsuite.registry import configure
from evalsuite.streams import Domain, Stream
from protocols.continual import ContinualOrder
from protocols.replay import Replay

GENERATOR = np.random.default_rng(0)


@pytest.fixture
def stream():
    protocol = ContinualOrder(
        images=12, batch_size=5, corruptions=("fog", "snow"), mixed=True, reset=2, clean_first=True
    )
    return protocol.plan(np.zeros(20, np.int64), np.random.default_rng(1))


@pytest.fixture
def file(stream, tmp_path):
    stream.save(tmp_path / "mine.npz")
    return tmp_path / "mine.npz"


def test_what_was_written_is_shown(stream, file):
    protocol = Replay(str(file))
    replayed = protocol.plan(np.zeros(12, np.int64), GENERATOR)
    assert replayed.digest() == stream.digest()
    assert protocol.domains() == stream.domains
    assert protocol.length == len(stream)
    assert str(protocol) == "replay of mine"


def test_the_content_is_part_of_the_setting(stream, file):
    one = configure("protocols", "replay", {"file": str(file)})
    assert one.values()["digest"] == stream.digest()
    ContinualOrder(images=12).plan(np.zeros(20, np.int64), GENERATOR).save(file)
    assert configure("protocols", "replay", {"file": str(file)}) != one
    with pytest.raises(RequestError, match=f"holds the stream .*: expected {stream.digest()}"):
        one.build().plan(np.zeros(20, np.int64), GENERATOR)


def test_two_spellings_of_a_path_are_one_setting(file):
    spelt = (str(file), f"{file.parent}/./{file.name}")
    one, two = (configure("protocols", "replay", {"file": path}) for path in spelt)
    assert one == two


def test_a_stream_that_does_not_fit_the_test_set(file):
    with pytest.raises(RequestError, match="shows test image 11: expected less than 11"):
        Replay(str(file)).plan(np.zeros(11, np.int64), GENERATOR)


def test_a_stream_of_an_unknown_corruption(file, stream):
    Stream((Domain("fogg", 3), *stream.domains[1:]), stream.image, stream.domain, stream.starts, stream.resets).save(
        file
    )
    with pytest.raises(RequestError, match="did you mean 'fog'"):
        Replay(str(file)).domains()


def test_a_file_must_be_there(tmp_path):
    with pytest.raises(RequestError, match="no stream file"):
        configure("protocols", "replay", {"file": str(tmp_path / "none.npz")})
    with pytest.raises(RequestError, match="file"):
        configure("protocols", "replay", {})
