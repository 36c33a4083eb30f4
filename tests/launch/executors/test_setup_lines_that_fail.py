"""Lines of a cluster's `setup` that fail, such as a missing module: the run trains, and its user is told."""

import json

FAILING = ["module load cuda/99.9", "source /nowhere/conda.sh", "wanted=$(false)", "late() { return 3; }", "late now"]
SOUND = [
    "if false; then", "  true", "fi", "false || true", "[ -f /nowhere ] && true", "cat > /dev/null <<END", "a line",
    "END", "source {project}/profile.sh",
]  # fmt: skip


def submit_with(setup, project, make_grid, submit_to_slurm, **options):
    (project / "clusters.yaml").write_text(json.dumps({"lab": {"setup": setup}}))
    return submit_to_slurm(make_grid(**options), cluster="lab")


def test_failed_lines_are_noted_in_status_and_log(slurm, project, make_grid, submit_to_slurm, fake_child):
    (project / "profile.sh").write_text("false\ngrep -q nothing /dev/null\ntrue\n")
    sound = [line.format(project=project) for line in SOUND]
    quick = {"grid": {"seed": [0]}, "set": {"data.path": "quick"}}
    sweep = submit_with(FAILING + sound, project, make_grid, submit_to_slurm, **quick)
    sweep.wait_until_done()
    words = "setup: module load cuda/99.9 ended with 127; source /nowhere/conda.sh ended with 1; " \
            "wanted=$(false) ended with 1; late now ended with 3"  # fmt: skip
    [status] = sweep.statuses()
    assert status.notes == [words]
    [run] = sweep.sweep.runs()
    assert words in run.log.read_text().splitlines()


def test_lines_that_succeed_are_not_noted(slurm, project, make_grid, submit_to_slurm, fake_child):
    (project / "profile.sh").write_text("false\ntrue\n")
    sound = [line.format(project=project) for line in SOUND]
    sweep = submit_with(sound, project, make_grid, submit_to_slurm, grid={"seed": [0]}, set={"data.path": "endless"})
    sweep.wait(lambda status: status.state == "running", "the run to begin")
    assert sweep.statuses()[0].notes == []
