"""Mistakes in a cluster file are refused with file, line and the nearest right name."""

import pytest

from mtlcluster.config.cluster import find_cluster
from mtlcluster.errors import UserError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lab:\n  partitoin: gpu\n", r"clusters.yaml:2: unknown key 'partitoin'; did you mean 'partition'"),
        ("lab:\n  partition: gpu\n  host: -lab\n", r"clusters.yaml:3: host should be a name from .* '-lab'"),
        ("lab: {host: lab, root: mine}\n", r"clusters.yaml:1: root should begin with / or ~/, found 'mine'"),
        ("a/b: {host: lab}\n", r"clusters.yaml:1: a cluster's name should be letters, digits"),
        ("lab:\n  setup: module load cuda\n", r"clusters.yaml:2: setup should be a valid list"),
        ("lab: gpu\n", r"clusters.yaml:1: expected the options of cluster 'lab'"),
        ("lab:\n  gpus_as: gers\n", r"clusters.yaml:2: gpus_as should be 'per_node' or 'gres', found 'gers'"),
        ("lab:\n  gpu_types:\n    a100: gpu:a100\n", r"clusters.yaml:3: gpu_types.a100 should be a type of GPU"),
        ("lab:\n  limits:\n    tmie: 2h\n", r"clusters.yaml:3: unknown key 'tmie'; did you mean 'time'"),
        ("lab:\n  limits:\n    time: 90x\n", r"clusters.yaml:3: limits.time should be a duration .*, found '90x'"),
        ("lab:\n  limits: {jobs: 0}\n", r"clusters.yaml:2: limits.jobs should be greater than 0, found 0"),
        (
            "lab:\n  partition: gpu\n  root: ~/big\n",
            r"clusters.yaml:3: root is for clusters with a host; 'lab' has none, so it is",
        ),
        (
            "slurm:\n  host: lab\n",
            r"clusters.yaml:2: 'slurm' is the Slurm of this machine; give a cluster with a host another name",
        ),
        ("local:\n  partition: gpu\n", r"clusters.yaml:1: 'local' is this machine"),
    ],
)
def test_a_mistake_is_told_with_its_line(project, text, message):
    (project / "clusters.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        find_cluster("lab", project)


def test_the_nearer_file_wins(project):
    home = project.parent / "HOME" / ".config" / "mtlcluster"
    home.mkdir(parents=True)
    (home / "clusters.yaml").write_text("lab: {partition: far}\nother: {partition: far}\n")
    (project / "clusters.yaml").write_text("lab: {partition: near}\n")
    assert find_cluster("lab", project).options.partition == "near"
    assert find_cluster("other", project).options.partition == "far"
