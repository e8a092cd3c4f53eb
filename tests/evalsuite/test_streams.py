from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.errors import RequestError
from evalsuite.streams import Domain, Stream, batch_starts, round_of


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


@pytest.mark.parametrize("severity", [-1, 6, 2.5, 2.0, True, float("nan"), "3", None])
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
    with pytest.raises(ValueError, match="negative"):
        Stream(good.domains, good.image - 1, good.domain, good.starts, good.resets)
    with pytest.raises(ValueError, match="image of 1 axes, int64: expected one, int32"):
        Stream(good.domains, good.image.astype(np.int64), good.domain, good.starts, good.resets)
    with pytest.raises(ValueError, match="rise from 0"):
        Stream(good.domains, good.image, good.domain, good.starts[:0], good.resets[:0])


@given(st.integers(1, 200), st.integers(1, 70), st.integers(1, 5), st.data())
def test_a_saved_stream_is_the_same_stream(tmp_path_factory, length, batch_size, domains, data):
    domains = min(domains, length)
    number = len(batch_starts(length, batch_size))
    resets = np.array(data.draw(st.lists(st.booleans(), min_size=number, max_size=number)))
    ways = dict(
        zip(("reset_on_collapse", "constant_speed"), data.draw(st.tuples(st.booleans(), st.booleans())), strict=True)
    )
    before = replace(stream(length, batch_size, domains, resets), **ways)
    file = tmp_path_factory.getbasetemp() / "any.stream"
    before.save(file)
    after = Stream.load(file)
    assert after.digest() == before.digest()
    assert after.domains == before.domains
    assert {name: getattr(after, name) for name in ways} == ways
    assert len({replace(before, constant_speed=speed).digest() for speed in (False, True)}) == 2
    assert [batch.reset for batch in after.batches()] == resets.tolist()


def test_clean_domains_survive_saving(tmp_path):
    good = stream()
    Stream((Domain(), Domain("fog", 2)), good.image, good.domain, good.starts, good.resets).save(tmp_path / "a.npz")
    assert Stream.load(tmp_path / "a.npz").domains == (Domain(), Domain("fog", 2))


@given(st.data())
def test_a_damaged_file_is_a_one_line_error_or_the_same_stream(tmp_path_factory, data):
    file = tmp_path_factory.getbasetemp() / "damaged.npz"
    stream().save(file)
    content = bytearray(file.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    try:
        assert Stream.load(file).digest() == stream().digest()
    except RequestError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert str(error).startswith(f"{file} is not a stream that Stream.save wrote: ")  # noqa: PT017


def test_files_that_hold_something_else(tmp_path):
    with pytest.raises(RequestError, match="no stream file"):
        Stream.load(tmp_path / "missing.npz")
    np.savez(tmp_path / "other.npz", image=np.arange(3))
    np.save(tmp_path / "array.npy", np.arange(3))
    good = stream()
    arrays = {"domain": good.domain, "starts": good.starts, "resets": good.resets, "names": np.array(["d", "e"])}
    np.savez(tmp_path / "severity.npz", image=good.image, severities=np.array([1, 7]), **arrays)
    np.savez(tmp_path / "fewer.npz", image=good.image, severities=np.array([1]), **arrays)
    np.savez(tmp_path / "wide.npz", image=good.image.astype(np.int64), severities=np.array([1, 1]), **arrays)
    for name in ("other.npz", "array.npy", "severity.npz", "fewer.npz", "wide.npz"):
        with pytest.raises(RequestError, match="is not a stream"):
            Stream.load(tmp_path / name)


@given(st.integers(1, 50), st.integers(1, 9))
def test_round_of_counts_equal_rounds(each, rounds):
    found = round_of(np.arange(each * rounds, dtype=np.int32), each * rounds, rounds)
    assert np.array_equal(found, np.repeat(np.arange(rounds), each))


def test_rounds_that_are_not_equal():
    for length, rounds in ((10, 3), (10, 0), (0, 1)):
        with pytest.raises(ValueError, match="equal rounds"):
            round_of(np.arange(10), length, rounds)


def shown(names, severities=None, lengths=2, batch=2, **options):
    """Build a stream that shows stretches of domains by name, one test image after the other."""
    steps = [Domain(name, severity) for name, severity in zip(names, severities or [5] * len(names), strict=True)]
    domains = tuple(dict.fromkeys(steps))
    domain = np.repeat([domains.index(step) for step in steps], lengths).astype(np.int16)
    starts = batch_starts(len(domain), batch)
    return Stream(domains, np.arange(len(domain), dtype=np.int32), domain, starts, starts < 0, **options)


@pytest.mark.parametrize(
    ("names", "severities", "expected"),
    [
        (["fog", "snow", "fog", "snow"], None, [0, 0, 1, 1]),
        (["fog", "snow", "snow", "fog"], [1, 1, 2, 1], [0, 0, 0, 0]),  # snow came once, at two severities
        (["fog", "fog", "snow", "fog", "snow"], [1, 5, 5, 3, 5], [0, 0, 0, 1, 1]),
        (["fog", "snow", "fog"], None, [0, 0, 0]),  # not all of them come again
        (["fog"], None, [0]),
    ],
)
def test_rounds_are_read_off_the_domains(names, severities, expected):
    assert shown(names, severities).rounds().tolist() == np.repeat(expected, 2).tolist()


def test_a_mixed_stream_is_one_round_unless_it_says_so(tmp_path):
    names = ["fog", "snow"] * 4
    assert not shown(names, lengths=1, batch=4).rounds().any()
    told = np.repeat([0, 1], 4).astype(np.int16)
    stream = shown(names, lengths=1, batch=4, round=told)
    assert stream.rounds().tolist() == told.tolist()
    assert stream.digest() == shown(names, lengths=1, batch=4).digest(), "no network sees it"
    stream.save(tmp_path / "s.npz")
    assert Stream.load(tmp_path / "s.npz").rounds().tolist() == told.tolist()
    with pytest.raises(ValueError, match="one for each image"):
        shown(names, lengths=1, batch=4, round=told[1:])


@given(st.lists(st.integers(1, 9), min_size=1))
def test_images_know_their_batch(sizes):
    starts = np.cumsum([0, *sizes[:-1]])
    length = sum(sizes)
    domain = np.zeros(length, np.int16)
    stream = Stream((Domain(),), np.zeros(length, np.int32), domain, starts.astype(np.int64), starts < 0)
    expected = [number for number, size in enumerate(sizes) for _ in range(size)]
    assert stream.batch_of().tolist() == expected
