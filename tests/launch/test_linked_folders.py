"""If the home is a link: which of its two paths the batch script and the queue get."""

from pathlib import Path

from mtlcluster.launch.hand_over import sweep_of


def test_a_relative_folder_has_one_path_however_one_came_there_and_an_absolute_one_stays(
    project, make_grid, tmp_path, monkeypatch
):
    grid = make_grid(grid={"seed": [0]})
    link = tmp_path / "link"
    link.symlink_to(project)
    for folder in (project, link):
        monkeypatch.chdir(folder)
        monkeypatch.setenv("PWD", str(folder))
        assert sweep_of(grid, Path("runs")).folder == project.resolve() / "runs" / "sweep"
    assert sweep_of(grid, link / "runs").folder == link / "runs" / "sweep"
