"""What a reader must know stands in the study's notes."""

import numpy as np
from _dummies import plugins
from _dummies.studies import tiny

from evalsuite.running.notes import notes
from evalsuite.study.trials import expand


def said(monkeypatch, labels, images):
    """The notes of a study on a test set whose labels are changed to these."""
    from evalsuite.running import notes as module

    given = module.task_data
    monkeypatch.setattr(module, "task_data", lambda task, root: _Relabelled(given(task, root), labels))
    stream = {"protocol": "continual", "images": images, "batch_size": 6, "corruptions": ["contrast"]}
    study = tiny(tasks=[plugins.TASK], stream=[stream])
    return [line for line in notes(expand(study, dict.fromkeys(study.tasks, "")), study, None) if "classes" in line]


class _Relabelled:
    def __init__(self, data, labels):
        self._data, self.test_labels = data, labels(data.test_labels)

    def __getattr__(self, name):
        return getattr(self._data, name)


def test_a_stream_of_few_classes_of_a_sorted_test_set_is_said(monkeypatch):
    (line,) = said(monkeypatch, lambda labels: sorted_into(labels, 10), 6)
    assert "Of the 10 classes of" in line
    assert "shows" in line
    assert "sorted by class" in line


def test_a_stream_that_shows_what_it_has_room_for_is_not(monkeypatch):
    assert said(monkeypatch, lambda labels: labels, 24) == []


def sorted_into(labels, classes):
    return np.sort(np.arange(len(labels)) * classes // len(labels))


def test_a_stream_that_cannot_be_planned_is_its_own_trials_matter():
    study = tiny(stream=[{"protocol": "_dummies.plugins:Aimless"}])
    assert not any("classes" in line for line in notes(expand(study, dict.fromkeys(study.tasks, "")), study, None))
