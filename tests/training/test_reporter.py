from mtlcluster.training import reporter
from mtlcluster.training.callbacks import Callbacks
from mtlcluster.training.reporter import Reporter


class Heard(Callbacks):
    def __init__(self):
        self.events = []

    def report(self, event, **values):
        self.events.append((event, values))


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


def test_the_time_that_is_left_is_that_of_the_steps_of_this_attempt(monkeypatch):
    clock, heard = Clock(), Heard()
    monkeypatch.setattr(reporter, "time", clock)
    reports = Reporter(heard, total_steps=30)
    reports.begin(10)
    reports.report("started", 10)
    clock.now += 8
    reports.report("progress", 14, epoch=2)
    assert [(event, values["seconds_left"]) for event, values in heard.events] == [("started", None), ("progress", 32)]
    assert heard.events[1][1] == {"step": 14, "epoch": 2, "seconds_left": 32, "notes": []}


def test_progress_is_reported_at_once_and_then_once_a_second(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(reporter, "time", clock)
    reports, due = Reporter(Heard(), 10), []
    for seconds in (0, 0.5, 0.4, 0.2, 0.9):
        clock.now += seconds
        due.append(reports.is_progress_due())
    assert due == [True, False, False, True, False]


def test_a_note_is_kept_once_also_where_its_reason_is_worded_differently():
    reports = Reporter(Heard(), 10)
    undefined = f"validation: f1 of task 'a'{reporter.UNDEFINED}"
    reports.note(["first", f"{undefined}none of 10 labels is yes"])
    reports.note(["first", f"{undefined}none of 12 labels is yes", "second"])
    assert reports.notes == ["first", f"{undefined}none of 10 labels is yes", "second"]
