"""Messages for the user about failures of ssh and rsync, by what these printed."""

import os
import re

from mtlcluster.errors import ClusterError

# A pattern of what ssh prints when it can't connect, and the message to the user. {0} is the group in the pattern.
MEANINGS = [
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED(?s:.*)Offending \S+ key in ([^\r\n]+)",
        "the host key of {host} has changed: {0} has another key. This may be an attack, so mtlcluster refuses. "
        "Ask the administrators of {host}; if the new key is right, remove that line",
    ),
    (r"Host key verification failed", "the host key of {host} is not known yet; accept it once: ssh {host}"),
    (r"Could not resolve hostname", "the host {host} is unknown; is it spelt as in ~/.ssh/config?"),
    (
        r"Permission denied \((?!publickey\))",
        "{host} does not accept a key alone, and there is no terminal to ask for a password or a second factor; "
        "run this in a terminal, or first open a shared connection (ControlMaster)",
    ),
    (
        r"Permission denied",
        "{host} refused your key; does this work: ssh {host} (if it asks for the key's passphrase, first run ssh-add)",
    ),
    (r"Connection refused|No route to host|Network is unreachable|timed out", "{host} does not answer (is it down?)"),
    (r"(?i)connection (reset|closed)", "{host} closed the connection immediately; does this work: ssh {host}"),
]
LOST_IN_RSYNC = (10, 12, 30, 35, 255)  # exit codes of rsync after a lost connection


def no_connection(host: str, printed: str) -> ClusterError:
    """The error for what ssh printed where it could not connect to `host`."""
    for pattern, words in MEANINGS:
        if found := re.search(pattern, printed):
            return ClusterError(words.format(*found.groups(), host=host))
    return ClusterError(f"no connection to {host}: {printed.strip()[-500:]}")


def user_can_help(printed: str) -> bool:
    """True if ssh needs an answer of the user to connect, and there is a terminal in which to ask."""
    missing = re.search("Permission denied|Host key verification failed", printed)
    return bool(missing) and "HAS CHANGED" not in printed and os.isatty(0) and os.isatty(2)


def no_bash(host: str, printed: str) -> ClusterError:
    """The error for a login whose shell does not start bash."""
    return ClusterError(f"{host} accepts the login, but does not run bash; it printed: {printed[-500:] or 'nothing'}")


def rsync_failed(host: str, code: int, printed: str) -> ClusterError | None:
    """The error for what rsync printed. None if it only lost the connection."""
    if "No space left on device" in printed or "Disk quota exceeded" in printed:
        return ClusterError(f"{host}: its disk is full; free some space and run the command again")
    if code in (12, 127) and "rsync" in printed and "not found" in printed:
        return ClusterError(
            f"rsync is not installed on {host}; ask its administrators for it, or load it in your profile there"
        )
    if code in LOST_IN_RSYNC:
        return None
    return ClusterError(f"{host}: {printed.strip()[-2000:] or f'rsync failed with code {code}'}")
