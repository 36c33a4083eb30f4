"""The rig itself: login nodes, delays and cuts work as the other tests expect."""

import subprocess
import time
from pathlib import Path

import pytest
from rig.slurm_cluster import wait_for


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def ssh(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run("ssh", "-o", "BatchMode=yes", *arguments)


def master(name: str, socket: Path) -> str:
    """Starts a master connection, which ends with the test. Returns the option by which a command uses it."""
    path = f"-oControlPath={socket}"
    begun = ssh("-MNf", path, "-oControlPersist=60", name)
    assert begun.returncode == 0, begun.stderr
    return path


def test_a_command_runs_in_the_home_and_with_the_slurm_of_its_cluster(arnold, uh, monkeypatch):
    monkeypatch.setenv("LEAKED", "from the laptop")
    for cluster in (arnold, uh):
        name, show = cluster.login.name, "pwd; echo $HOME $SLURM_CONF $LEAKED"
        answer = ssh(name, show)
        assert answer.stdout.split() == [str(cluster.login.home), str(cluster.login.home), str(cluster.slurm.conf)]
        job = ssh(name, "sbatch --parsable --partition=closed --wrap true").stdout.strip()
        assert cluster.slurm.jobs() == {job: "PENDING"}
        assert "idle" in ssh(name, "sinfo -h -p main").stdout
        assert cluster.login.commands()[0] == show
    assert ssh("arnold", "exit 3").returncode == 3


def test_a_cluster_is_lent_clean(arnold, uh):
    for cluster in (arnold, uh):
        assert cluster.slurm.jobs() == {}
        assert cluster.login.commands() == []
        assert list(cluster.login.home.iterdir()) == []


def test_a_job_runs_with_the_home_of_its_cluster(arnold):
    assert ssh("arnold", "sbatch --wrap 'echo $HOME > partial; mv partial out'").returncode == 0
    out = arnold.login.home / "out"
    wait_for(out.exists, "the job to have run")
    assert out.read_text() == f"{arnold.login.home}\n"


def test_commands_are_logged_as_one_line_each(arnold):
    ssh("arnold", "echo a\necho b")
    arnold.login.forget()
    assert ssh("arnold", "printf '%s\\n' 'c\nd'").stdout == "c\nd\n"
    assert arnold.login.commands() == ["printf '%s\\n' 'c d'"]


def test_a_banner_comes_first(arnold):
    arnold.login.banner.write_text("Welcome\n")
    assert ssh("arnold", "echo hello").stdout == "Welcome\nhello\n"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_is_cut_at_a_command_with_all_that_share_it(arnold, tmp_path, when):
    path = master("arnold", tmp_path / "m")
    other = subprocess.Popen(["ssh", path, "arnold", "sleep 60"])
    wait_for(arnold.login.commands, "it to be counted")
    arnold.login.cut(3, when)
    assert [ssh(path, "arnold", f"echo {i} | tee {i}").returncode for i in range(2)] == [0, 0]
    cut = ssh(path, "arnold", "echo lost | tee lost")
    assert (cut.returncode, cut.stdout) == (255, "")
    assert other.wait(10) == 255
    assert (arnold.login.home / "lost").exists() == (when == "after")
    assert ssh("arnold", "echo again").stdout == "again\n"


def test_rsync_takes_the_wrapper_and_can_be_cut(arnold, tmp_path):
    (tmp_path / "file").write_text("content")
    assert run("rsync", "-a", tmp_path / "file", "arnold:there/").returncode == 0
    assert (arnold.login.home / "there" / "file").read_text() == "content"
    for when in ("before", "after"):
        arnold.login.cut(1, when)
        assert run("rsync", "-a", tmp_path / "file", f"arnold:{when}/").returncode != 0
        assert (arnold.login.home / when).exists() == (when == "after")
    assert len(arnold.login.commands()) == 3


def test_the_delay_is_that_of_the_distance_and_spares_the_bandwidth(arnold, client, tmp_path):
    def seconds(*arguments: str) -> float:
        begin = time.monotonic()
        assert ssh(*arguments).returncode == 0
        return time.monotonic() - begin

    path = master("arnold", tmp_path / "near")
    near = min(seconds(path, "arnold", "true") for _ in range(3))
    client.reach(arnold.login, delay=0.1)
    path = master("arnold", tmp_path / "far")
    far = min(seconds(path, "arnold", "true") for _ in range(3))
    assert 0.4 <= far < near + 0.6  # two round trips: one opens a channel, one runs the command
    # ssh sends at most 2 MB at once, and a round trip takes one fifth of a second
    assert seconds(path, "arnold", "head -c 5000000 /dev/zero") < far + 1.5


def test_a_connection_ends_after_so_many_bytes(arnold, client):
    client.reach(arnold.login, cut_after=100_000)
    assert ssh("arnold", "head -c 10000 /dev/zero").returncode == 0
    cut = ssh("arnold", "head -c 200000 /dev/zero")
    assert cut.returncode == 255
    assert 50_000 < len(cut.stdout) < 100_000


def test_a_host_that_is_down_refuses_until_it_is_up_again(arnold, tmp_path):
    path = master("arnold", tmp_path / "m")
    arnold.login.stop()
    for arguments in ((), (path,)):
        refused = ssh(*arguments, "arnold", "true")
        assert refused.returncode == 255
        assert "Connection refused" in refused.stderr
    arnold.login.start()
    assert ssh("arnold", "true").returncode == 0


def test_a_changed_host_key_is_refused(arnold, client):
    arnold.login.new_host_key()
    refused = ssh("arnold", "true")
    assert refused.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in refused.stderr
    client.reach(arnold.login)
    assert ssh("arnold", "true").returncode == 0
