import warnings

import pytest
import torch
from _dummies.models import random_images, tiny_resnet
from _dummies.zoa import BUILDS, EAGER, stream

from evalsuite.adaptation.adapted_model import adapt
from evalsuite.errors import AdaptationWarning


@pytest.mark.parametrize("build", BUILDS)
def test_a_domain_change_does_not_move_the_parameters(build):
    # lr 0 and no weight decay: what moves is the domain change alone.
    still = {"lr": 0.0, "coefficient_lr": 0.0, "bank": 3, **EAGER}
    run = adapt(build(), "zoa", random_images(16), **still)
    run(random_images(8, 99))
    state = run.state
    generator = torch.Generator().manual_seed(0)
    for images in stream((6, 6), images=8):
        state.epsilon = state.epsilon + 0.03 * torch.randn(len(state.epsilon), generator=generator)
        state.flat.write(state.start + state.bank.mix() + state.epsilon)
        before = state.flat.read()
        run(images)
        torch.testing.assert_close(state.flat.read(), before, atol=1e-5, rtol=0)
        torch.testing.assert_close(state.start + state.bank.mix() + state.epsilon, before, atol=1e-5, rtol=0)
    assert state.bank_entries == 3
    assert len(state.domain_changes) == 12


@pytest.mark.parametrize("build", BUILDS)
def test_a_bank_of_three_never_grows_past_three(build):
    run = adapt(build(), "zoa", random_images(16), bank=3, **EAGER)
    parameters = sum(run.state.flat.sizes)
    for batch in range(20):
        run(random_images(8, batch) + batch)
        entries = min(batch, 3)
        assert run.state.bank_entries == entries
        bank = run.state.bank.entries
        assert bank.untyped_storage().nbytes() == (entries + 1) * parameters * 4
    assert run.state.domain_changes == list(range(1, 20))
    assert run.costs["state_bytes"] < 12 * parameters * 4
    assert run.costs["adapted_parameters"] <= parameters


@pytest.mark.parametrize("build", BUILDS)
def test_the_detector_fires_at_the_boundaries_of_a_stream_only(build):
    run = adapt(build(), "zoa", random_images(32))
    for images in stream((5, 5, 3)):
        run(images)
    assert run.state.domain_changes == [5, 10]
    assert run.facts["judged_batches"] == [[1, run.state.batches]], "the first has none before it"
    assert run.state.bank_entries == 2
    assert run.state.detector.unjudged == 0


def test_the_first_batch_of_a_domain_is_shifted_by_the_old_history_where_it_resets_the_shift_afterwards():
    run = adapt(tiny_resnet(), "zoa", random_images(16), lr=0.0, shift_reset="after")
    histories = []
    for images in stream((2, 2)):
        old = run.state.history
        logits = run(images)
        with torch.no_grad():
            seen = run.state.observer(images)
            shift = 0 if old is None else run.state.source_feature - old
            torch.testing.assert_close(logits, run.state.observer.classify(seen.feature + shift), atol=1e-5, rtol=1e-4)
        histories.append((run.state.history, seen.feature.mean(0)))
    assert run.state.domain_changes == [2]
    for batch in (0, 2):
        torch.testing.assert_close(*histories[batch])  # begun anew
    torch.testing.assert_close(histories[3][0], 0.9 * histories[2][0] + 0.1 * histories[3][1])


@pytest.mark.parametrize(("passes", "perturbations", "moves"), [("first", 2, 1), ("all", 1, 2), ("all", 2, 3)])
def test_the_running_statistics_move_once_a_batch_or_once_a_pass(passes, perturbations, moves):
    run = adapt(
        tiny_resnet(), "zoa", random_images(16), detector_passes=passes, perturbations=perturbations, threshold=1e9
    )
    batches = list(stream((2,)))
    run(batches[0])
    first = run.state.detector.mean
    run(batches[1])
    with torch.no_grad():
        now = run.state.observer(batches[1]).stem.mean
    torch.testing.assert_close(run.state.detector.mean, 0.8**moves * first + (1 - 0.8**moves) * now)


def test_the_detector_may_start_from_the_source_images_and_then_sees_the_first_domain():
    source = random_images(192)
    run = adapt(tiny_resnet(), "zoa", source, detector_start="source")
    with torch.no_grad():
        means = [run.state.observer(part).stem.mean for part in source.split(64)]
    expected = 0.8 * (0.8 * means[0] + 0.2 * means[1]) + 0.2 * means[2]
    torch.testing.assert_close(run.state.detector.mean, expected)
    shifted = [images + 2 for images in stream((2,))]
    for images in shifted:
        run(images)
    assert run.state.domain_changes == [0]
    few = adapt(tiny_resnet(), "zoa", random_images(16), detector_start="source")
    few(shifted[0])
    assert few.state.domain_changes == []  # too few source images to begin with


def test_the_first_batch_of_a_domain_is_not_shifted():
    run = adapt(tiny_resnet(), "zoa", random_images(16), lr=0.0)
    plain = tiny_resnet().train()  # batch statistics, source parameters
    shifted = [not torch.allclose(run(images), plain(images), atol=1e-5) for images in stream((2, 2))]
    assert shifted == [False, True, False, True]
    run = adapt(tiny_resnet(), "zoa", random_images(16), lr=0.0, activation_shift=False)
    assert all(torch.allclose(run(images), plain(images), atol=1e-5) for images in stream((2, 2)))


def test_small_batches_switch_the_detector_off_with_a_warning():
    run = adapt(tiny_resnet(), "zoa", random_images(16))
    with pytest.warns(
        AdaptationWarning, match="a batch of 8 images is under min_batch = 64; the detector does not judge"
    ):
        run(random_images(8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(random_images(8) + 5)
    assert run.state.domain_changes == []
    assert run.state.detector.unjudged == 2
    assert run.facts["judged_batches"] == []


def test_the_first_batch_that_is_not_judged_gives_a_warning_whenever_it_comes():
    run = adapt(tiny_resnet(), "zoa", random_images(16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(random_images(64))
    with pytest.warns(AdaptationWarning, match="a batch of 20 images is under min_batch = 64"):
        run(random_images(20))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(random_images(64))
        run(random_images(8))
    assert run.state.detector.unjudged == 2
