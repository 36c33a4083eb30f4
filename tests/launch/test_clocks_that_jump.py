"""The clock is set back while a run trains, by ntp for example: the run does not count as silent until the old time is
reached again, and its training time does not become negative.
"""

import time

CLOCK = """
import time

def set_back(real=time.time):
    try:
        return real() - float(open({path!r}).read())
    except (OSError, ValueError):
        return real()

time.time = set_back
"""


def test_a_run_is_heard_of_all_the_same(project, make_grid, submit_locally, fake_child, monkeypatch):
    offset, folder = project / "offset", project / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(CLOCK.format(path=str(offset)))
    monkeypatch.setenv("PYTHONPATH", f"{folder}")
    sweep = submit_locally(make_grid(grid={"data.path": ["slow-save"]}))
    sweep.wait("", "running")
    while not sweep.status().epochs:
        time.sleep(0.05)
    offset.write_text("3600")
    [run] = sweep.sweep.runs()
    run.cancel.touch()
    seen = []
    while (status := sweep.status()).state == "running":
        seen.append(status)
        time.sleep(0.1)
    assert any("asked to stop" in note for note in seen[-1].notes)
    assert status.state == "cancelled"
    assert status.elapsed > 3
    assert time.time() - status.heartbeat > 3000  # the clock was wrong indeed
