"""What ssh and rsync print when they fail, in words for the user."""

import os
import re

from mtlcluster.errors import ClusterError

# What ssh prints where it can't connect, and what that means. {0} is the group in the pattern.
MEANINGS = [
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED(?s:.*)Offending \S+ key in ([^\r\n]+)",
        "the host key of {host} has changed: {0} has another. That may be an attack; mtlcluster never overrides it. "
        "Ask its administrators; if the new key is right, remove that line",
    ),
    (r"Host key verification failed", "the host key of {host} is not known yet; accept it once: ssh {host}"),
    (r"Could not resolve hostname", "the host {host} is unknown; is it spelt as in ~/.ssh/config?"),
    (
        r"Permission denied \((?!publickey\))",
        "{host} does not accept a key alone, and there is no terminal to ask for a password or a second factor; "
        "run this in a terminal, or open a shared connection (ControlMaster) before",
    ),
    (
        r"Permission denied",
        "{host} refused your key; does this work: ssh {host} (if it asks for the key's passphrase: ssh-add before)",
    ),
    (r"Connection refused|No route to host|Network is unreachable|timed out", "{host} does not answer (is it down?)"),
    (r"(?i)connection (reset|closed)", "{host} closed the connection at once; does this work: ssh {host}"),
]
LOST_IN_RSYNC = (10, 12, 30, 35, 255)  # exit codes of rsync for a connection that is lost


def no_connection(host: str, printed: str) -> ClusterError:
    """The error for what ssh printed where it could not connect to `host`."""
    for pattern, words in MEANINGS:
        if found := re.search(pattern, printed):
            return ClusterError(words.format(*found.groups(), host=host))
    return ClusterError(f"no connection to {host}: {printed.strip()[-500:]}")


def user_can_help(printed: str) -> bool:
    """Tells whether ssh could connect if it asked the user, and there is a terminal to ask at."""
    missing = re.search("Permission denied|Host key verification failed", printed)
    return bool(missing) and "HAS CHANGED" not in printed and os.isatty(0) and os.isatty(2)


def no_bash(host: str, printed: str) -> ClusterError:
    return ClusterError(f"{host} accepts the login, but does not run bash; it printed: {printed[-500:] or 'nothing'}")


def rsync_failed(host: str, code: int, printed: str) -> ClusterError | None:
    """The error for what rsync printed. None where the connection was lost."""
    if "No space left on device" in printed or "Disk quota exceeded" in printed:
        return ClusterError(f"{host}: the disk over there is full; free some space and run the command again")
    if code in (12, 127) and "rsync" in printed and "not found" in printed:
        return ClusterError(f"rsync is not installed on {host}; ask for it there, or load it in your profile")
    if code in LOST_IN_RSYNC:
        return None
    return ClusterError(f"{host}: {printed.strip()[-2000:] or f'rsync failed with code {code}'}")
