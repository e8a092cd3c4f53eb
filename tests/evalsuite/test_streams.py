import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.streams import Domain, Stream, batch_starts


def stream(length=10, batch_size=4, domains=2, resets=None):
    starts = batch_starts(length, batch_size)
    domain = (np.arange(length) * domains // length).astype(np.int16)
    return Stream(
        tuple(Domain(f"d{k}", 1) for k in range(domains)),
        np.arange(length, dtype=np.int32),
        domain,
        starts,
        np.zeros(len(starts), bool) if resets is None else resets,
    )


@given(st.integers(1, 200), st.integers(1, 70))
def test_batches_cover_the_stream_once_in_order(length, batch_size):
    batches = list(stream(length, batch_size, 1).batches())
    assert np.array_equal(np.concatenate([batch.image for batch in batches]), np.arange(length))
    assert all(len(batch.image) == batch_size for batch in batches[:-1])


def test_digest_sees_every_part():
    flags = np.array([False, True, False])
    variants = [stream(), stream(resets=flags), stream(batch_size=5), stream(domains=3), stream(length=11)]
    assert len({s.digest() for s in variants}) == len(variants)
    assert stream().digest() == stream().digest()


@pytest.mark.parametrize("severity", [-1, 6])
def test_domain_severity_is_checked(severity):
    with pytest.raises(ValueError, match=r"expected 1\.\.5"):
        Domain("fog", severity)


def test_clean_has_severity_zero_only():
    assert str(Domain()) == "clean"
    assert str(Domain("fog", 3)) == "fog 3"
    with pytest.raises(ValueError, match="clean at 0"):
        Domain("clean", 2)


def test_malformed_streams_are_refused():
    good = stream()
    with pytest.raises(ValueError, match="as many"):
        Stream(good.domains, good.image[:-1], good.domain, good.starts, good.resets)
    with pytest.raises(ValueError, match="rise from 0"):
        Stream(good.domains, good.image, good.domain, good.starts[::-1], good.resets)
    with pytest.raises(ValueError, match="not in the list"):
        Stream(good.domains[:1], good.image, good.domain, good.starts, good.resets)
    with pytest.raises(ValueError, match="at least 1"):
        batch_starts(10, 0)
