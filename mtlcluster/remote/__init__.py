"""Runs on other clusters, reached with the user's own OpenSSH and rsync. Nothing runs here between two commands.

dispatch, shares, upload                `submit`: which run goes to which cluster; copying the sweep there
retry, cancel, logs, list_clusters      the commands with these names (`clusters` is list_clusters)
download, transfer                      `collect`: copying results here
all_runs, placement, status_cache       runs here and elsewhere; which cluster has a run; the last replies
setup, wheel, this_version              `setup`: the environment on a cluster, with this version of mtlcluster
agent, agent_reply                      what runs on the login node; checking what it replies
clusters, ssh, ssh_messages             clusters side by side; one connection; its errors in plain words
rsync_shell, shell, data_places         rsync's ssh; quoting for a login shell; paths of the data on a cluster
"""
