"""Refused with their line: line breaks in options of a batch script, and aliases that would fill the memory."""

import pytest

from mtlcluster.config.cluster import find_cluster
from mtlcluster.config.grid import read_grid
from mtlcluster.config.run import read_run_config
from mtlcluster.errors import UserError

BREAKS = [r"a\nb", r"a\r", r"\n#SBATCH --time=1", r"a\0b", r"a\eb[31m", r"a\Lb", r"a\Pb", r"a\Nb", r"\x7f", r"a\vb"]
OF_A_JOB = ["partition", "account", "qos", "constraint"]


def refused(read, path, text, line, key):
    path.write_text(text)
    with pytest.raises(UserError) as told:
        read(path)
    assert str(told.value).startswith(f"{path}:{line}: ")
    assert key in str(told.value)
    assert "single line" in str(told.value)
    assert str(told.value).isprintable()


@pytest.mark.parametrize("value", BREAKS)
def test_a_line_break_is_refused_with_its_line(project, value):
    grid, clusters = project / "g.yaml", project / "clusters.yaml"
    head = "name: g\njob: tiny\ngrid: {seed: [0]}\n"
    for key in OF_A_JOB:
        refused(read_grid, grid, f'{head}resources:\n  {key}: "{value}"\n', 5, key)
        refused(read_grid, grid, f'{head}set:\n  resources.{key}: "{value}"\n', 5, key)
        refused(read_run_config, grid, f'job: tiny\nresources:\n  {key}: "{value}"\n', 3, key)
    for host in ("", "  host: arnold\n"):
        options = [*OF_A_JOB, "mail", "environment", *(["root"] if host else [])]
        for key in options:
            text = f'lab:\n{host}  {key}: "/{value}"\n'
            refused(lambda path: find_cluster("lab", path.parent), clusters, text, 2 + bool(host), key)
        for key in ["setup", *(["install"] if host else [])]:
            text = f'lab:\n{host}  {key}:\n    - echo a\n    - "{value}"\n'
            refused(lambda path: find_cluster("lab", path.parent), clusters, text, 4 + bool(host), key)


def test_one_line_is_accepted(project):
    (project / "clusters.yaml").write_text(
        'lab:\n  setup: ["echo \\t\\"é日\\" \'x\'\\u00a0# y", "export A=$B"]\n  account: "the lab\'s (2)"\n'
        "  environment: ~/my envs/mtl\n  partition: >-\n    gpu\n"
    )
    options = find_cluster("lab", project).options
    assert options.setup == ["echo \t\"é日\" 'x'\u00a0# y", "export A=$B"]
    assert (options.account, options.environment, options.partition) == ("the lab's (2)", "~/my envs/mtl", "gpu")


def bombs():
    lists = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
    keys, merged = "a0: &a0 {k: 1}\n", "a0: &a0 {k: 1}\n"
    for i in range(1, 10):
        ten = ",".join([f"*a{i - 1}"] * 10)
        lists += f"a{i}: &a{i} [{ten}]\n"
        keys += f"a{i}: &a{i} {{" + ",".join(f"k{j}: *a{i - 1}" for j in range(10)) + "}\n"
        merged += f"a{i}: &a{i} {{<<: [{ten}]}}\n"
    itself, merges_itself = "a: &a [*a, *a]\n", "a: &a {<<: [*a, *a]}\n"
    return {"lists": lists, "keys": keys, "merged": merged, "itself": itself, "merges itself": merges_itself}


def read_clusters_beside(path):
    return find_cluster("lab", path.parent)


@pytest.mark.parametrize("kind", bombs())
def test_aliases_that_stand_for_more_than_fits_in_memory_are_refused(project, kind):
    """Tried in a grid, its base, a run's configuration and a cluster file."""
    bomb, grid = bombs()[kind], project / "g.yaml"
    inside = "".join(f"  {line}\n" for line in bomb.splitlines())
    readers = {
        read_grid: "name: g\njob: tiny\nbase: base.yaml\ngrid: {seed: [0]}\n",
        read_run_config: f"job: tiny\ndata:\n{inside}",
        read_clusters_beside: "",
    }
    (project / "base.yaml").write_text(bomb)
    (project / "clusters.yaml").write_text(bomb)
    for read, text in readers.items():
        grid.write_text(text)
        with pytest.raises(UserError, match=r"\.yaml:\d+: (more than 200,000 values|nested more than)"):
            read(grid)


def test_aliases_as_people_use_them_are_read(project):
    (project / "g.yaml").write_text(
        "name: g\njob: tiny\nset:\n  resources: &small {cpus: 1, memory: 500M}\n"
        "grid: {seed: &seeds [0, 1]}\ninclude:\n" + "  - {seed: 2, resources: *small}\n" * 1
    )
    assert len(read_grid(project / "g.yaml").runs) == 3
