"""No spelling of a URL, and no variable of libpq's, makes another machine's server look local."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from backset.connections.target import Target
from tests.conftest import PASSWORD, ROLE
from tests.elsewhere import forwarding
from tests.marks import slow_but

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backset.servers.cluster import Cluster
    from tests.project import Project

SERVICE = """
[away]
host=127.0.0.1
port={port}
user={role}
password={password}
"""
SECRET = quote(PASSWORD, safe="")
PARTS = {"role": ROLE, "secret": SECRET, "password": PASSWORD}


@pytest.fixture
def away(project: Project, cluster: Cluster, elsewhere: tuple[str, ...]) -> Iterator[Project]:
    """A project on another machine than the server, to which a tunnel leads from port TUNNEL."""
    project.prefix = elsewhere
    with forwarding("127.0.0.1", ("127.0.0.1", cluster.port)) as port:
        service = project.folder / "services.conf"
        service.write_text(SERVICE.format(port=port, **PARTS))
        project.env |= {"TUNNEL": str(port), "PGSERVICEFILE": str(service)}
        yield project


def spelled(away: Project, cluster: Cluster, text: str) -> str:
    """Fill a URL or a value with the parts of this test's servers."""
    name = Target.parse(away.url).database
    places = {"tunnel": away.env["TUNNEL"], "here": cluster.port, "folder": cluster.socket_folder}
    return text.format(name=name, **places, **PARTS)


@pytest.mark.parametrize(
    ("url", "variables"),
    slow_but(
        [
            ("postgresql://{role}:{secret}@localhost:{tunnel}/{name}", {}),
            ("postgresql://{role}:{secret}@:{here}/{name}?host=127.0.0.1&port={tunnel}", {}),
            (
                "postgresql://{role}:{secret}@/{name}?host={folder}&hostaddr=127.0.0.1&port={tunnel}",
                {},
            ),
            ("postgresql+asyncpg://{role}:{secret}@/{name}?host=localhost&port={tunnel}", {}),
            ("postgresql:///{name}?service=away", {}),
            ("postgresql:///{name}", {"PGSERVICE": "away"}),
            ("postgresql:///{name}?user={role}&password={secret}", {"PGSERVICE": "away"}),
            ("postgresql://{role}:{secret}@localhost/{name}", {"PGPORT": "{tunnel}"}),
            (
                "postgresql://{role}:{secret}@localhost/{name}",
                {"PGHOSTADDR": "127.0.0.1", "PGPORT": "{tunnel}"},
            ),
            ("postgresql:///{name}", {"PGHOST": "127.0.0.1", "PGPORT": "{tunnel}", "PGUSER": ROLE}),
        ],
        lambda case: "service=away" in case[0] or "?host=127" in case[0] or "PGHOSTADDR" in case[1],
    ),
)
def test_a_tunnel_is_seen_through_however_it_is_named(
    away: Project, cluster: Cluster, url: str, variables: dict[str, str]
) -> None:
    """Exit 3, and --yes lets it pass: the guard judges the connection, not the words."""
    away.env["PGPASSWORD"] = PASSWORD
    away.env |= {name: spelled(away, cluster, text) for name, text in variables.items()}
    away.env["DATABASE_URL"] = spelled(away, cluster, url)
    refused = away.invoke("reset-db", "--plan")
    assert refused.returncode == 3, refused.stdout + refused.stderr
    assert "may be on another machine (127.0.0.1:" in refused.stderr
    assert "a tunnel or a proxy stands between" in refused.stderr


def test_the_same_machine_needs_nothing(
    project: Project, cluster: Cluster, elsewhere: tuple[str, ...]
) -> None:
    """Where no process can be seen, the server itself is still taken for what it is."""
    project.prefix = elsewhere
    name = Target.parse(project.url).database
    project.env["DATABASE_URL"] = f"postgresql://{ROLE}:{SECRET}@localhost:{cluster.port}/{name}x"
    assert project.invoke("reset-db", "--plan").returncode == 0


def test_a_container_of_this_machine_needs_nothing(project: Project, container: Cluster) -> None:
    """Its published port is on our loopback, and the server's process is one of our kernel's."""
    with forwarding("127.0.0.1", (container.address, container.port)) as port:
        project.env["DATABASE_URL"] = f"postgresql://postgres@127.0.0.1:{port}/app"
        done = project.invoke("reset-db")
        assert done.returncode == 0, done.stderr


def test_an_address_of_the_network_is_refused(
    project: Project, container: Cluster, elsewhere: tuple[str, ...]
) -> None:
    """Exit 3 for the server itself; a tunnel that looks like a container's port is doubtful."""
    project.prefix = elsewhere
    url = f"postgresql://postgres@{container.address}:{container.port}/app"
    done = project.invoke("reset-db", DATABASE_URL=url)
    assert done.returncode == 3
    assert f"({container.address}:{container.port}: the address is not one of" in done.stderr
    with forwarding("127.0.0.1", (container.address, container.port)) as port:
        url = f"postgresql://postgres@127.0.0.1:{port}/app"
        done = project.invoke("reset-db", DATABASE_URL=url)
        assert done.returncode == 3
        assert "looks like a container's published port" in done.stderr


@pytest.mark.parametrize("source", ["PGHOST", "PGHOSTADDR", "service"])
def test_a_list_of_hosts_from_elsewhere_is_none_either(
    project: Project, tmp_path: Path, cluster: Cluster, source: str
) -> None:
    """Libpq takes such a list from a variable and from a service file as well."""
    several = "127.0.0.1,127.0.0.1"
    service = tmp_path / "services.conf"
    service.write_text(f"[away]\nhost={several}\nport={cluster.port}\n")
    env = {"PGSERVICEFILE": str(service), "PGPORT": str(cluster.port), "PGPASSWORD": PASSWORD}
    env |= {"PGSERVICE": "away"} if source == "service" else {source: several}
    done = project.invoke("reset-db", DATABASE_URL=f"postgresql://{ROLE}@/app", **env)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "several hosts" in done.stderr


@pytest.mark.parametrize(("value", "code"), [("t", 3), ("always", 3), ("off", 0)])
def test_whatever_an_administrator_writes_protects(
    project: Project, name: str, value: str, code: int
) -> None:
    """A marker that somebody spelled otherwise is not taken for none."""
    project.query(f"ALTER DATABASE {name} SET backset.protected = '{value}'")
    assert project.invoke("reset-db", "--plan").returncode == code
