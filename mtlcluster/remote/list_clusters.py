"""`mtlcluster clusters`: a line for each cluster, with its host and whether it is ready."""

from collections.abc import Iterator

from mtlcluster.config.cluster import read_clusters
from mtlcluster.config.cluster_files import LOCAL, SLURM, cluster_files, passed_over
from mtlcluster.errors import ClusterError
from mtlcluster.launch.status_table import Line, Piece
from mtlcluster.remote.clusters import RemoteClusters, Reply
from mtlcluster.remote.this_version import is_this_version

HERE = "this machine"


def cluster_lines() -> Iterator[Line]:
    """Asks all clusters, and yields the lines."""
    from mtlcluster.launch.executors import slurm

    clusters = read_clusters(cluster_files(None))
    with RemoteClusters(clusters.values()) as remote:
        replies = remote.each(remote.by_name, lambda one: one.call("look", sweep=""))
    answers = slurm.answers()
    here = ("ready", "green") if answers else ("its Slurm does not answer", "red")
    found = {LOCAL: (HERE, ("ready", "green"))}
    if answers:
        found[SLURM] = (HERE, here)
    for name, cluster in clusters.items():
        host = cluster.options.host
        found[name] = (host, _state(name, replies[name])) if host else (HERE, here)
    names, hosts = max(map(len, found)), max(len(host) for host, _ in found.values())
    for name, (host, state) in found.items():
        yield [(f"{name:{names}}", "bold"), (f"  {host:{hosts}}  ", ""), state]
    if words := passed_over():
        yield [(words, "dim")]
    elif not replies:
        yield [("no cluster file names another; configs/clusters.yaml.example shows how", "dim")]


def _state(name: str, reply: Reply | ClusterError) -> Piece:
    if isinstance(reply, ClusterError):
        return str(reply), "red"
    if not is_this_version(reply["version"]):
        return f"has another version of mtlcluster: mtlcluster setup --cluster {name}", "yellow"
    active = sum(run.state in ("running", "queued") for run in reply["runs"])
    return f"ready; {active:,} of {len(reply['runs']):,} runs queued or running", "green"
