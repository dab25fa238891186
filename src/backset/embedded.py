"""Which clusters there are: the project's own under `.backset/`, and throw-away ones."""

from __future__ import annotations

import tempfile
from pathlib import Path

from backset import account, programs
from backset.cluster import Cluster


def project_cluster(root: Path) -> Cluster:
    """Return the cluster of the project in `root`; nothing is made or started yet."""
    who = account.choose(root)
    name = f"postgresql-{programs.EMBEDDED_MAJOR}"
    installation = account.reachable_programs(programs.embedded_folder(), who)
    return Cluster(
        folder=account.home(root, who) / name,
        major=programs.EMBEDDED_MAJOR,
        installation=installation,
        account=who,
    )


def temporary_cluster(major: int, tcp_port: int | None = None) -> Cluster:
    """Return a throw-away cluster in a new folder of /tmp, for tests and for CI."""
    folder = Path(tempfile.mkdtemp(prefix="backset-", dir="/tmp")) / "cluster"
    folder.parent.chmod(0o755)
    who = account.choose(folder.parent)
    installation = account.reachable_programs(programs.embedded_folder(major), who)
    return Cluster(
        folder=folder, major=major, installation=installation, account=who, tcp_port=tcp_port
    )
