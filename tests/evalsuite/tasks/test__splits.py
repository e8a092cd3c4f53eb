from __future__ import annotations

from evalsuite.tasks._splits import shuffled, words


def test_orders_are_fixed_for_ever() -> None:
    assert shuffled(8, "example").tolist() == [0, 5, 6, 4, 7, 1, 2, 3]
    assert words(2, "example").tolist() == [157883385137973861, 7483967839531789832]


def test_every_key_has_its_own_order() -> None:
    assert sorted(shuffled(50, "a")) == list(range(50))
    assert shuffled(50, "a").tolist() != shuffled(50, "b").tolist()
