"""What a run tells of its last validation, by which its worker prunes it."""

import pytest
from rig.tiny_runs import assert_same, tiny

from mtlcluster.training.callbacks import Callbacks, StopRequested


class Reports(Callbacks):
    """Keeps the reports about validations; stops once this many epochs are finished."""

    def __init__(self, epochs: int = 0) -> None:
        self.epochs, self.heard = epochs, []

    def report(self, event, **values):
        if event in ("started", "epoch"):
            self.heard.append((values["last_validation"], values["best"]))

    def should_stop(self) -> bool:
        return bool(self.epochs) and len(self.heard) > self.epochs


@pytest.mark.parametrize("every", [1, 2])
def test_a_run_that_goes_on_tells_its_last_validation_again(every, tmp_path):
    """The worker that was killed may have missed it, and the validation is not repeated."""
    whole, stopped, resumed = Reports(), Reports(epochs=3), Reports()
    history = tiny(tmp_path / "whole", whole, epochs=6, validate_every=every)
    with pytest.raises(StopRequested):
        tiny(tmp_path / "stopped", stopped, epochs=6, validate_every=every)
    again = tiny(tmp_path / "stopped", resumed, epochs=6, validate_every=every)
    assert_same(history["series"], again["series"])
    assert whole.heard[0] == ({"epoch": 0, "step": 0}, None)
    assert stopped.heard[-1] == resumed.heard[0] == whole.heard[3]
    assert resumed.heard[1:] == whole.heard[4:]
    assert whole.heard[-2][0] == {"epoch": 6 - every, "step": 10 * (6 - every)}
    assert whole.heard[-1][0] is None


def test_a_training_that_stops_early_has_none_at_its_end(tmp_path):
    """A run that is over can't be pruned any more."""
    reports = Reports()
    tiny(tmp_path, reports, epochs=9, early_stopping={"patience": 1, "min_delta": 1e6})
    assert [validation for validation, _ in reports.heard] == [{"epoch": 0, "step": 0}, {"epoch": 1, "step": 10}, None]
