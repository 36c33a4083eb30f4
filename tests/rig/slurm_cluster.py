"""A real Slurm on this machine: a controller, two nodes, and a preempting partition, all on loopback. Needs root."""

import ctypes
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

PROGRAMS = ["munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel"]
ACCOUNTING_PROGRAMS = ["slurmdbd", "sacctmgr", "mariadbd", "mariadb-install-db", "mariadb"]
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"

SLURM_CONF = """
ClusterName=sandbox
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1
ReturnToService=2
SlurmdTimeout=30
KillWait=10
MinJobAge=300
MaxArraySize=1001
MaxJobCount=40000
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} CPUs=4 RealMemory=8000 Gres=gpu:2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port2} CPUs=4 RealMemory=8000 Gres=gpu:2
PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=high Nodes=ALL MaxTime=60 State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=closed Nodes=ALL MaxTime=60 State=DOWN
"""
NO_ACCOUNTING = "AccountingStorageType=accounting_storage/none\n"
ACCOUNTING = """AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={port3}
AccountingStoragePass={folder}/munge.socket
JobAcctGatherType=jobacct_gather/linux
"""
SLURMDBD_CONF = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdPort={port3}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={port4}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
"""


def missing(accounting: bool = False) -> str:
    """Why there can be no Slurm here, or ''."""
    if os.getuid() != 0:
        return "a Slurm of one's own needs root"
    wanted = PROGRAMS + (ACCOUNTING_PROGRAMS if accounting else [])
    absent = [program for program in wanted if shutil.which(program, path=PATH) is None]
    packages = "slurm-wlm munge" + (" slurmdbd mariadb-server" if accounting else "")
    return f"not installed: {', '.join(absent)} (Debian packages {packages})" if absent else ""


@contextmanager
def started(accounting: bool = False) -> Iterator["SlurmCluster"]:
    if reason := missing(accounting):
        pytest.skip(reason)
    # Not in pytest's folders, which MariaDB's user may not enter.
    with tempfile.TemporaryDirectory(prefix="mtlcluster-slurm-") as folder:
        cluster = SlurmCluster(Path(folder), accounting)
        try:
            yield cluster
        finally:
            cluster.stop()


class SlurmCluster:
    """Starts with its construction; `stop` ends everything that was started."""

    def __init__(self, folder: Path, accounting: bool = False) -> None:
        self.folder, self.daemons = folder, {}
        self.ports = dict(zip(("port", "port1", "port2", "port3", "port4"), free_ports(5), strict=True))
        self.conf = folder / "slurm.conf"
        self.environment = {**os.environ, "PATH": PATH, "SLURM_CONF": str(self.conf)}
        folder.chmod(0o755)
        (folder / "state").mkdir()
        try:
            self._start_munge()
            self._write("cgroup.conf", "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
            self._write_gpus()
            if accounting:
                self._start_accounting()
            self._write("slurm.conf", SLURM_CONF + (ACCOUNTING if accounting else NO_ACCOUNTING))
            self._start_slurm()
        except BaseException:
            self.stop()
            raise

    def ask(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def jobs(self, *, live: bool = True) -> dict[str, str]:
        """The state of every job by its id, array tasks singly; of those that have not ended, or of all."""
        states = "PENDING,RUNNING,SUSPENDED,COMPLETING" if live else "all"
        lines = self.ask("squeue", "-h", "-r", "-t", states, "-o", "%i|%T").splitlines()
        return dict(line.split("|") for line in lines)

    def release(self, job: str) -> None:
        """Lets a requeued job begin soon; Slurm would hold it back for two minutes."""
        wait_for(lambda: self.jobs().get(job) == "PENDING", f"{job} to be requeued")
        time.sleep(1.5)  # within the same second its credential still counts as revoked
        self.ask("scontrol", "update", f"JobId={job}", "StartTime=now")

    @contextmanager
    def configured(self, **settings: object) -> Iterator[None]:
        """Restarted with other settings (None: without), and back again."""
        before = self.conf.read_text()
        changed = [line for line in before.splitlines() if line.partition("=")[0] not in settings]
        self._restart("\n".join(changed + [f"{k}={v}" for k, v in settings.items() if v is not None]) + "\n")
        try:
            yield
        finally:
            self.clear()
            self._restart(before)

    def clear(self) -> None:
        """Cancels whatever there is."""
        if self.jobs():
            self.ask("scancel", "--user=root")
            wait_for(lambda: not self.jobs(), "the queue to be empty")

    def stop(self) -> None:
        if "n2" in self.daemons and self.daemons["slurmctld"].poll() is None:
            self.clear()
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self.daemons = {}

    def _restart(self, conf: str) -> None:
        self.conf.write_text(conf)
        for name in ("slurmctld", "n1", "n2"):
            self.daemons[name].terminate()
            self.daemons[name].wait()
        self._start_slurm()

    def _start_slurm(self) -> None:
        self._start("slurmctld", "slurmctld", "-D", "-f", str(self.conf))
        for node in ("n1", "n2"):
            self._start(node, "slurmd", "-D", "-f", str(self.conf), "-N", node)

        def idle() -> bool:
            nodes = subprocess.run(["sinfo", "-h", "-p", "main", "-o", "%T"], capture_output=True, env=self.environment)
            return nodes.stdout.split() == [b"idle"]

        wait_for(idle, f"the nodes to be idle; see {self.folder}")

    def _write(self, name: str, text: str) -> None:
        host = socket.gethostname().partition(".")[0]
        path = self.folder / name
        path.write_text(text.format(folder=self.folder, host=host, **self.ports))
        path.chmod(0o600 if name == "slurmdbd.conf" else 0o644)

    def _write_gpus(self) -> None:
        for index in range(2):  # never opened: they only let Slurm hand out indices
            os.mknod(self.folder / f"gpu{index}", 0o20600, os.makedev(195, index))
        self._write("gres.conf", "AutoDetect=off\nName=gpu Flags=nvidia_gpu_env File={folder}/gpu[0-1]\n")

    def _start(self, name: str, *command: str) -> None:
        with open(self.folder / f"{name}.out", "ab") as out:
            self.daemons[name] = subprocess.Popen(
                command,
                stdout=out,
                stderr=out,
                env=self.environment,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(128))
        places = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={self.folder}/munge.{suffix}" for option, suffix in places.items()]
        self._start("munged", "munged", "--foreground", "--force", f"--key-file={key}", *options)
        wait_for((self.folder / "munge.socket").exists, "munged")

    def _start_accounting(self) -> None:
        data = self.folder / "db"
        data.mkdir()
        shutil.chown(data, "mysql")
        where = [f"--datadir={data}", "--user=mysql"]
        subprocess.run(["mariadb-install-db", *where], check=True, capture_output=True, env=self.environment)
        network = [f"--port={self.ports['port4']}", "--bind-address=127.0.0.1", f"--socket={data}/socket"]
        self._start("mariadbd", "mariadbd", "--no-defaults", *where, *network, f"--pid-file={data}/pid")
        wait_for((data / "pid").exists, "MariaDB")
        users = " ".join(
            f"create user slurm@{host} identified by 'slurm'; grant all on *.* to slurm@{host};"
            for host in ("localhost", "127.0.0.1")
        )
        sql = f"{users} create database slurm_acct_db"
        client = ["mariadb", f"--socket={data}/socket", "-e", sql]
        wait_for(lambda: subprocess.run(client, capture_output=True).returncode == 0, "MariaDB to take users")
        self._write("slurmdbd.conf", SLURMDBD_CONF)
        self._write("slurm.conf", SLURM_CONF + ACCOUNTING)
        self._start("slurmdbd", "slurmdbd", "-D")
        add = ["sacctmgr", "-i", "add", "cluster", "sandbox"]
        wait_for(lambda: subprocess.run(add, capture_output=True, env=self.environment).returncode == 0, "slurmdbd")


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Ports that are free now. They are below those that the system gives to connections, so they stay free.

    Training seeds Python's own generator, so the system's is asked.
    """
    sockets: list[socket.socket] = []
    while len(sockets) < count:
        with suppress(OSError):  # somebody else has it
            sockets.append(socket.create_server(("127.0.0.1", random.SystemRandom().randrange(15_000, 32_000))))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
