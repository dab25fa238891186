"""Which clusters there are: the project's own under `.backset/`, and throw-away ones."""

from __future__ import annotations

import tempfile
from pathlib import Path

from backset.processes import account
from backset.servers import programs
from backset.servers.cluster import Cluster


def project_cluster(root: Path) -> Cluster:
    """Return the cluster of the project in `root`; nothing is made or started yet."""
    who = account.choose(root)
    return Cluster(
        folder=account.home(root, who) / f"postgresql-{programs.EMBEDDED_MAJOR}",
        major=programs.EMBEDDED_MAJOR,
        wheel=programs.embedded_folder(),
        account=who,
    )


def temporary_cluster(
    major: int,
    tcp_port: int | None = None,
    *,
    address: str = "127.0.0.1",
    installation: Path | None = None,
) -> Cluster:
    """Return a throw-away cluster in a new folder of /tmp, for tests and for CI.

    installation: a folder with `bin` of that major version; the embedded one by default.
    """
    folder = Path(tempfile.mkdtemp(prefix="backset-", dir="/tmp")) / "cluster"
    folder.parent.chmod(0o755)
    return Cluster(
        folder=folder,
        major=major,
        wheel=installation or programs.embedded_folder(major),
        account=account.choose(folder.parent),
        tcp_port=tcp_port,
        address=address,
    )
