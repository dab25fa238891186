"""Backups that a team shares, in a bucket: `backups = "s3://bucket/prefix"` and `--from` a URL."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import pyrage
import pytest

from backset.connections.target import Target
from tests import buckets
from tests.buckets import KEY_ID, SECRET, Bucket
from tests.clusters import running
from tests.incident.fingerprint import fingerprint
from tests.incident.project import lay_down
from tests.marks import slow_but
from tests.project import REPOSITORY, Project, databases, prints
from tests.states import rebuilt

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from backset.servers.cluster import Cluster
    from tests.buckets import Proxy

_MANIFEST = re.compile(r"/(?!running)[^/]+\.json$")  # of a PUT
PART = ".part"


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """An S3 over HTTP."""
    with buckets.served() as found:
        yield found


@pytest.fixture
def bucket(endpoint: str) -> Bucket:
    """A bucket of the test's own."""
    return buckets.made(endpoint, f"team-{secrets.token_hex(4)}")


@pytest.fixture
def shared(project: Project, bucket: Bucket) -> Project:
    """A project whose database was built, and whose backups go into the bucket."""
    rebuilt(project)
    project.env |= bucket.env
    return project


@pytest.fixture(scope="session")
def another_server() -> Iterator[Cluster]:
    """The PostgreSQL of a colleague."""
    with running(18) as server:
        yield server


@pytest.fixture
def colleague(shared: Project, another_server: Cluster, tmp_path: Path, bucket: Bucket) -> Project:
    """Whose database has the same name, and other rows."""
    with psycopg.connect(another_server.url("postgres"), autocommit=True) as session:
        session.execute(f"CREATE DATABASE {shared.database}".encode())
    with psycopg.connect(another_server.url(shared.database)) as session:
        session.execute("CREATE TABLE mine AS SELECT generate_series(1, 3) AS id")
    folder = tmp_path / "colleague"
    folder.mkdir()
    lay_down(folder, REPOSITORY)
    return Project(folder, {**bucket.env, "DATABASE_URL": another_server.url(shared.database)})


@pytest.fixture
def proxy(shared: Project, bucket: Bucket) -> Iterator[Proxy]:
    """What stands between the project and its bucket, and does as it is asked until told else."""
    with buckets.proxied(bucket.endpoint) as found:
        shared.env["AWS_ENDPOINT_URL"] = found.endpoint
        yield found


def done(project: Project, *words: str, **env: str) -> str:
    """Run a task that must end well; return what it prints."""
    ended = project.invoke(*words, **env)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def failed(project: Project, *words: str, code: int = 4, **env: str) -> str:
    """Run a task that must fail by lines, each with a remedy, without credentials; return these."""
    ended = project.invoke(*words, **env)
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert "→" in ended.stderr
    _demand_no_credentials(ended)
    return ended.stderr


def _demand_no_credentials(ended: subprocess.CompletedProcess[str]) -> None:
    for each in (SECRET, KEY_ID):
        assert each not in ended.stdout + ended.stderr


def listed(project: Project, **env: str) -> list[str]:
    """Return the names of the backups, the oldest first."""
    return [
        each["name"] for each in json.loads(done(project, "backups", "--json", **env))["backups"]
    ]


def shown(project: Project) -> list[str]:
    """Return the lines about what is no backup."""
    found: list[str] = json.loads(done(project, "backups", "--json"))["unreadable"]
    return found


def change(project: Project) -> None:
    """Change the rows of the target."""
    project.query("DELETE FROM task_outputs WHERE id IN (SELECT id FROM task_outputs LIMIT 1)")


def wait_for(happened: Callable[[], object]) -> None:
    """Wait until something has happened."""
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


# ---------------------------------------------------------------- as in a folder


def test_a_backup_is_taken_listed_and_restored(shared: Project, bucket: Bucket) -> None:
    """As in a folder: its name, its rows, and the way back; no dump is on this machine."""
    before = prints(shared)
    said = done(shared, "backup", "--name", "before-demo")
    assert f"{bucket.url}/{shared.database}/before-demo" in said
    told = json.loads(done(shared, "backups", "--json"))
    (taken,) = told["backups"]
    assert (taken["name"], taken["is_pinned"]) == ("before-demo", True)
    assert taken["file"] == f"{bucket.url}/{shared.database}/before-demo"
    assert told["folder"] == f"{bucket.url}/{shared.database}"
    assert not [each for each in shared.folder.rglob("*") if ".dump" in each.name]
    (scripts,) = (shared.folder / "backups").rglob("before-demo.scripts.tar.gz")
    assert bucket.get(next(x for x in bucket.listed() if "scripts" in x)) == scripts.read_bytes()
    change(shared)
    done(shared, "restore", "before-demo", "--yes")
    assert prints(shared) == before


def test_a_manifest_comes_last_and_is_all_that_makes_a_backup(
    shared: Project, bucket: Bucket, proxy: Proxy
) -> None:
    """Every part is there before; each object is one request, and no upload in parts is begun."""
    done(shared, "backup")
    writes = [path for method, path in proxy.asked if method == "PUT"]
    manifest = next(each for each in writes if _MANIFEST.search(each))
    assert writes.index(manifest) == len(writes) - 1
    assert sum(PART in each for each in writes) >= 1
    assert not [path for _, path in proxy.asked if "uploads" in path or "partNumber" in path]
    key = manifest.partition(f"{bucket.name}/")[2]
    about = json.loads(bucket.get(key))
    parts = [each for each in bucket.listed() if each.endswith(PART)]
    assert (about["parts"], about["size_bytes"]) == (
        len(parts),
        sum(len(bucket.get(each)) for each in parts),
    )
    bucket.delete(key)
    assert listed(shared) == []


def test_a_colleague_gets_the_same_database(
    shared: Project, colleague: Project, bucket: Bucket
) -> None:
    """`restore --from s3://…/latest`, on a server of theirs, with backups in a folder of theirs."""
    done(shared, "backup")
    change(shared)
    done(shared, "backup")
    del colleague.env["BACKSET_BACKUPS"]
    done(colleague, "restore", "--from", f"{bucket.url}/latest", "--yes")
    assert prints(colleague) == prints(shared)
    first = listed(shared)[0]
    done(colleague, "restore", first, "--from", bucket.url, "--yes")
    assert prints(colleague) != prints(shared)
    done(colleague, "restore", "--from", f"{bucket.url}/{shared.database}/latest", "--yes")
    assert prints(colleague) == prints(shared)


def test_a_backup_of_another_database_is_named_and_goes_elsewhere(
    shared: Project, bucket: Bucket
) -> None:
    """Whoever has a database of another name reads where there are backups, and how to take one."""
    done(shared, "backup")
    name = f"{shared.database}_mine"
    mine = Target.parse(shared.url).named(name).url
    words = ("restore", "--from", f"{bucket.url}/latest", "--yes")
    said = failed(shared, *words, DATABASE_URL=mine)
    assert f"{bucket.url}/{name} has no backup" in said
    way = f"{bucket.url}/{shared.database}/latest"
    assert f"--from {way} --into" in said
    said = failed(shared, "restore", "--from", way, "--yes", code=3, DATABASE_URL=mine)
    assert f"is a backup of {shared.database}" in said
    done(shared, "restore", "--from", way, "--yes", "--into", name)
    assert fingerprint(Target.parse(mine).params) == prints(shared)


def test_a_place_is_no_backup(project: Project, tmp_path: Path) -> None:
    """Who leaves `latest` out reads that; folders of something else are no backups' either."""
    rebuilt(project)
    (tmp_path / "other/folder").mkdir(parents=True)
    project.env["BACKSET_BACKUPS"] = url = f"file://{tmp_path}/backups"
    done(project, "backup")
    words = ("restore", "--yes", "--from")
    assert f"--from {url}/latest, or" in failed(project, *words, url)
    assert "there are some of" not in failed(project, *words, f"file://{tmp_path}/latest")


def test_a_shared_backup_is_proved(shared: Project) -> None:
    """Restored from the bucket and compared."""
    assert "proved: restored and compared" in done(shared, "backup", "--prove")


def test_rows_are_carried_from_a_shared_backup(shared: Project, bucket: Bucket) -> None:
    """`carry --from` takes its name, and its URL; `latest`, too."""
    done(shared, "backup", "--name", "full")
    rows = shared.query("SELECT * FROM task_outputs ORDER BY id")
    for origin in (f"{bucket.url}/{shared.database}/latest", "full", f"{bucket.url}/full"):
        shared.query("DELETE FROM task_outputs")
        done(shared, "carry", "--from", origin, "--yes")
        assert shared.query("SELECT * FROM task_outputs ORDER BY id") == rows


def test_a_rebuild_backs_up_into_the_bucket_and_keeps_what_is_pinned(
    shared: Project, bucket: Bucket
) -> None:
    """Retention removes the manifest and every part of a surplus backup; a pinned one stays."""
    shared.env["BACKSET_KEEP"] = "1"
    done(shared, "backup", "--pin")
    (pinned,) = listed(shared)
    for _ in range(2):
        change(shared)
        done(shared, "reset-db", "--yes")
    names = listed(shared)
    assert pinned in names
    folders = {each.split("/")[-2] for each in bucket.listed() if each.endswith(PART)}
    assert {each.rpartition(".")[0] for each in folders} == set(names)


def test_in_place_the_way_back_is_in_the_bucket(owned: Project, bucket: Bucket) -> None:
    """A role without CREATEDB: what was dropped comes back from there when a step fails."""
    rebuilt(owned)
    owned.env |= bucket.env
    before = prints(owned)
    (owned.folder / "scripts/add_mock_task_data.py").write_text("raise SystemExit('no')")
    ended = owned.invoke("reset-db", "--yes")
    assert ended.returncode == 5, ended.stdout + ended.stderr
    assert prints(owned) == before
    assert any(each.endswith(".json") for each in bucket.listed())


def test_a_folder_that_many_mount_is_a_bucket_too(project: Project, tmp_path: Path) -> None:
    """`file://` has the same form, and needs no credentials."""
    rebuilt(project)
    url = f"file://{tmp_path}/mounted/backups"
    project.env["BACKSET_BACKUPS"] = url
    before = prints(project)
    done(project, "backup", "--name", "one")
    assert failed(project, "backup", "--name", "one", code=3)
    change(project)
    done(project, "restore", "--from", f"{url}/latest", "--yes")
    assert prints(project) == before
    assert list((tmp_path / "mounted").rglob("*.part"))
    for manifest in (tmp_path / "mounted").rglob("*.json"):
        manifest.unlink()
    done(project, "backup")  # which removes the parts
    assert all(any(each.iterdir()) for each in (tmp_path / "mounted").rglob("*") if each.is_dir())
    wrong = tmp_path / "wrong"
    failed(project, "restore", "--from", f"file://{wrong}/latest", "--yes", code=2)
    assert not wrong.exists()


# ---------------------------------------------------------------- what is damaged


def test_a_damaged_part_is_found_before_anything_is_replaced(
    shared: Project, bucket: Bucket
) -> None:
    """Changed, cut or gone: the checksum of the manifest says so, and the target stays."""
    done(shared, "backup", "--name", "x")
    before = prints(shared)
    (part,) = [each for each in bucket.listed() if each.endswith(PART)]
    whole = bucket.get(part)
    bucket.put(part, whole[:-9] + bytes(9))
    assert "its SHA-256 is not" in failed(shared, "restore", "x", "--yes")
    bucket.put(part, whole[:-9])
    assert "was cut" in failed(shared, "restore", "x", "--yes")
    bucket.delete(part)
    assert "was cut" in failed(shared, "restore", "x", "--yes")
    assert prints(shared) == before


def test_a_manifest_that_cannot_be_read_is_told_of_and_left_alone(
    shared: Project, bucket: Bucket
) -> None:
    """The others are listed, and its parts are nobody's rubbish."""
    done(shared, "backup", "--name", "good")
    done(shared, "backup", "--name", "bad")
    (key,) = [each for each in bucket.listed() if each.endswith("bad.json")]
    bucket.put(key, b"{}")
    parts = [each for each in bucket.listed() if "/bad." in each and each.endswith(PART)]
    assert listed(shared) == ["good"]
    assert any("bad.json" in each for each in shown(shared))
    done(shared, "backup")
    assert set(parts) < set(bucket.listed())


def test_a_manifest_that_was_copied_or_renamed_costs_no_backup(
    shared: Project, bucket: Bucket
) -> None:
    """From a folder, or by hand: it is told of, and nothing that belongs to another is removed."""
    done(shared, "backup", "--name", "good")
    url = shared.env.pop("BACKSET_BACKUPS")
    done(shared, "backup", "--name", "of-a-folder")
    shared.env["BACKSET_BACKUPS"] = url
    (copied,) = (shared.folder / "backups").rglob("of-a-folder.json")
    folder = f"of/us/{shared.database}"
    bucket.put(f"{folder}/of-a-folder.json", copied.read_bytes())
    bucket.put(f"{folder}/renamed.json", bucket.get(f"{folder}/good.json"))
    assert listed(shared) == ["good"]
    assert len(shown(shared)) == 2
    shared.env["BACKSET_KEEP"] = "1"
    before = set(bucket.listed())
    done(shared, "reset-db", "--yes")
    assert before <= set(bucket.listed())
    bucket.delete(f"{folder}/good.json")  # as whoever renames it does
    done(shared, "reset-db", "--yes")
    assert [each for each in bucket.listed() if "/good." in each]


# ---------------------------------------------------------------- several at once


def test_of_two_writers_of_one_name_one_wins(
    shared: Project, colleague: Project, bucket: Bucket, proxy: Proxy
) -> None:
    """The other one says so, and takes away what it has uploaded."""
    first: list[str] = []

    def fault(method: str, path: str) -> None:
        if method == "PUT" and _MANIFEST.search(path) and not first:
            first.append("comes")
            ended = colleague.run("backup", "--name", "demo")
            first.append(ended.stdout + ended.stderr)

    proxy.fault = fault
    said = failed(shared, "backup", "--name", "demo")
    assert "done in" in first[1]
    assert "another run was first" in said
    assert listed(shared) == ["demo"]
    assert len({each.split("/")[-2] for each in bucket.listed() if each.endswith(PART)}) == 1
    done(shared, "restore", "demo", "--yes")


def test_a_writer_whose_answer_was_lost_is_not_taken_for_another(
    shared: Project, proxy: Proxy
) -> None:
    """The manifest was written, and the connection broke: repeated, it finds its own."""
    lost: list[str] = []

    def fault(method: str, path: str) -> str | None:
        if method == "PUT" and _MANIFEST.search(path) and not lost:
            lost.append(path)
            return "forget"
        return None

    proxy.fault = fault
    done(shared, "backup", "--name", "demo")
    assert (len(lost), listed(shared)) == (1, ["demo"])


def test_an_upload_that_died_is_listed_and_removed_by_the_next(
    shared: Project, bucket: Bucket, proxy: Proxy
) -> None:
    """After kill -9 no backup is there; what it left is told of, and goes. None is hidden."""
    proxy.fault = lambda method, path: "stall" if method == "PUT" and PART in path else None
    with shared.start("backup") as killed:
        wait_for(lambda: any(PART in path for _, path in proxy.asked))
        os.kill(killed.pid, signal.SIGKILL)
        killed.communicate()
    proxy.fault = lambda *_: None
    assert listed(shared) == []
    (line,) = shown(shared)
    assert "is an upload that has died" in line
    assert bucket.listed()
    done(shared, "backup")
    assert shown(shared) == []
    assert len(listed(shared)) == 1
    assert len({each.split("/")[-2] for each in bucket.listed() if each.endswith(PART)}) == 1
    assert b"<UploadId>" not in bucket.uploads()


def test_an_interrupted_upload_is_taken_away(shared: Project, bucket: Bucket, proxy: Proxy) -> None:
    """Though the store does not answer; exit 130, and nothing of it is left."""
    proxy.fault = lambda method, path: "stall" if method == "PUT" and PART in path else None
    with shared.start("backup") as run:
        wait_for(lambda: any(PART in path for _, path in proxy.asked))
        run.send_signal(signal.SIGINT)
        said = "".join(run.communicate())
    assert run.returncode == 130, said
    assert "interrupted by SIGINT" in said
    assert bucket.listed() == []


def test_an_upload_at_work_is_left_alone(
    shared: Project, colleague: Project, bucket: Bucket, proxy: Proxy
) -> None:
    """Another run lists it, takes its own backup, and the first one ends well."""
    held = [True]

    def fault(method: str, path: str) -> None:
        if method == "PUT" and _MANIFEST.search(path):
            wait_for(lambda: not held[0])

    proxy.fault = fault
    with shared.start("backup", "--name", "slow") as slow:
        wait_for(lambda: [x for x in proxy.asked if x[0] == "PUT" and _MANIFEST.search(x[1])])
        shared.env["AWS_ENDPOINT_URL"] = bucket.endpoint
        (line,) = shown(shared)
        assert "is an upload that has not ended" in line
        done(colleague, "backup", "--name", "quick")
        held[0] = False
        assert slow.wait(60) == 0, slow.communicate()
    assert sorted(listed(shared)) == ["quick", "slow"]
    for name in ("quick", "slow"):
        done(shared, "restore", name, "--yes")


def test_a_run_that_was_taken_for_dead_takes_its_manifest_back(
    shared: Project, bucket: Bucket, proxy: Proxy
) -> None:
    """Its parts may be gone: it fails by a line, and no backup without parts is there."""

    def fault(method: str, path: str) -> None:
        if method == "PUT" and _MANIFEST.search(path):
            for each in bucket.listed():
                bucket.delete(each)

    proxy.fault = fault
    assert "took this one for dead" in failed(shared, "backup", "--name", "late")
    assert bucket.listed() == []


@pytest.mark.parametrize("method", ["GET", "POST"], ids=["look", "removal"])
def test_a_backup_that_is_there_keeps_its_parts_whatever_comes_then(
    shared: Project, proxy: Proxy, method: str
) -> None:
    """A request after the manifest fails: the run says so, and what is listed can be restored."""
    seen: list[str] = []

    def fault(asked: str, path: str) -> int | None:
        if asked == "PUT" and _MANIFEST.search(path):
            seen.append(path)
        if len(seen) == 1 and asked == method:  # of the mark
            seen.append(path)
            return 403
        return None

    proxy.fault = fault
    assert "does not let us in" in failed(shared, "backup", "--name", "demo")
    assert len(seen) == 2
    assert listed(shared) == ["demo"]
    done(shared, "restore", "demo", "--yes")


def test_an_interrupted_removal_leaves_rubbish_that_the_next_run_removes(
    shared: Project, bucket: Bucket, proxy: Proxy
) -> None:
    """The manifest goes first: a backup is whole, or it is none."""
    done(shared, "backup", "--pin")
    shared.env["BACKSET_KEEP"] = "1"
    for _ in range(2):
        change(shared)
        done(shared, "backup")
    kept = listed(shared)

    def fault(method: str, path: str) -> int | None:
        return 403 if "delete" in path or method == "DELETE" else None

    done(shared, "restore", kept[0], "--yes")
    for each in bucket.listed():
        if each.endswith(f"{kept[0]}.json"):
            bucket.delete(each)
    proxy.fault = fault
    assert listed(shared) == kept[1:] or kept[0] not in listed(shared)
    assert "does not let us in" in failed(shared, "backup")
    proxy.fault = lambda *_: None
    done(shared, "backup")
    assert not [each for each in bucket.listed() if f"/{kept[0]}." in each]


# ---------------------------------------------------------------- faults, one clear line each

FAULTS = {
    ("InvalidAccessKeyId", 403): "does not let us in",
    ("SignatureDoesNotMatch", 403): "does not let us in",
    ("AccessDenied", 403): "does not let us in",
    ("ExpiredToken", 400): "does not let us in",
    ("NoSuchBucket", 404): "does not exist",
    ("QuotaExceeded", 403): "is full",
    ("InsufficientStorage", 507): "is full",
    ("SlowDown", 503): "answers 503",
    ("PermanentRedirect", 301): "is in another region",
    ("", "lose"): "connection was lost",
    ("", "stall"): "did not answer in 1 s",
}
NEVER_AGAIN = {301, 400, 403, 404}
WHENEVER = ("at once", "at a part", "at the end")
CASES = [(*fault, when) for when in WHENEVER for fault in FAULTS]
USUAL = {
    *(("InvalidAccessKeyId", 403, "at once"), ("NoSuchBucket", 404, "at once")),
    *(("InsufficientStorage", 507, "at a part"), ("", "lose", "at a part")),
    *(("QuotaExceeded", 403, "at the end"), ("", "stall", "at the end")),
}


@pytest.mark.parametrize(("code", "what", "when"), slow_but(CASES, USUAL.__contains__))
def test_a_fault_of_the_store_is_one_clear_line(
    shared: Project, proxy: Proxy, code: str, what: int | str, when: str
) -> None:
    """With what to do; requests are repeated, but not for ever; no credential is in it."""
    hits: list[str] = []

    def fault(method: str, path: str) -> int | str | None:
        at_part = method == "PUT" and PART in path
        at_end = method == "PUT" and bool(_MANIFEST.search(path))
        if when == "at once" or (at_part if when == "at a part" else at_end):
            hits.append(path)
            return what
        return None

    proxy.code, proxy.fault = code, fault
    said = failed(shared, "backup", BACKSET_BACKUPS_TIMEOUT="1")
    assert FAULTS[code, what] in said
    assert len(said.splitlines()) <= 2, said  # what it is, and what the target is
    if what != "lose":  # which may be seen before a request was sent
        assert len([each for each in hits if each == hits[0]]) == (1 if what in NEVER_AGAIN else 3)
    proxy.fault = lambda *_: None
    assert listed(shared) == []
    _demand_nowhere(shared.folder)


@pytest.mark.parametrize(
    "words", [("backups",), ("restore", "x", "--yes"), ("restore", "--from", "{url}/latest")]
)
def test_whoever_reads_is_told_of_a_fault_too(
    shared: Project, bucket: Bucket, proxy: Proxy, words: tuple[str, ...]
) -> None:
    """Listing and restoring: one line, and the target stays."""
    proxy.code, proxy.fault = "InvalidAccessKeyId", lambda *_: 403
    said = failed(shared, *(each.format(url=bucket.url) for each in words))
    assert "does not let us in" in said
    assert len(said.splitlines()) <= 2


def test_a_fault_while_a_dump_is_read_leaves_the_target(shared: Project, proxy: Proxy) -> None:
    """The connection breaks in the middle of a restore: one line; the target is as it was."""
    done(shared, "backup", "--name", "x")
    before, reads = prints(shared), [0]

    def fault(method: str, path: str) -> str | None:
        reads[0] += method == "GET" and PART in path
        return "lose" if reads[0] > 1 and PART in path else None

    proxy.fault = fault
    said = failed(shared, "restore", "x", "--yes")
    assert "connection was lost" in said
    assert prints(shared) == before
    assert databases(shared) == {"", "__previous", "__clean"}


def test_a_short_fault_is_survived(shared: Project, proxy: Proxy) -> None:
    """A request that fails once is repeated, whatever it is."""
    failed_once: set[tuple[str, str]] = set()

    def fault(method: str, path: str) -> str | int | None:
        if (method, path) in failed_once:
            return None
        failed_once.add((method, path))
        return 503 if len(failed_once) % 2 else "lose"

    proxy.code, proxy.fault = "SlowDown", fault
    done(shared, "backup", "--name", "x")
    done(shared, "restore", "x", "--yes")


def test_a_slow_store_is_waited_for(shared: Project, proxy: Proxy) -> None:
    """Each request has its own time: that all of them take long is no fault."""

    def fault(_method: str, _path: str) -> None:
        time.sleep(0.3)

    proxy.fault = fault
    done(shared, "backup", "--name", "x", BACKSET_BACKUPS_TIMEOUT="2")
    assert len(proxy.asked) * 0.3 > 2


def test_nobody_listens(shared: Project) -> None:
    """An address that is wrong is named as such, without the request that was made."""
    said = failed(shared, "backups", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert "cannot be reached" in said


def test_credentials_that_are_missing_are_named(shared: Project) -> None:
    """By the variables that have them; no cloud is asked who this machine is for long."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del shared.env[name]
    said = failed(shared, "backups", BACKSET_BACKUPS_TIMEOUT="1")
    assert "AWS_ACCESS_KEY_ID" in said
    assert len(said.splitlines()) == 1


# ---------------------------------------------------------------- credentials


def test_credentials_may_stand_in_dotenv(shared: Project) -> None:
    """As every other setting; nobody has to export them."""
    names = [each for each in shared.env if each.startswith("AWS_")]
    lines = [f"{each}={shared.env.pop(each)}\n" for each in names]
    (shared.folder / ".env").write_text("".join(lines))
    done(shared, "backup")
    assert len(listed(shared)) == 1


def test_no_child_gets_the_credentials(shared: Project) -> None:
    """Neither the seed command nor env.py, and no program of PostgreSQL; argv has none either."""
    spied = shared.folder / "spied"
    spy = f"import os\nopen({str(spied)!r}, 'a').write(repr(dict(os.environ)) + chr(10))\n"
    for path in (shared.folder / "scripts/add_mock_task_data.py", shared.folder / "alembic/env.py"):
        text = path.read_text()
        future = "from __future__ import annotations\n"
        path.write_text(text.replace(future, future + spy, 1) if future in text else spy + text)
    ended = shared.run("reset-db", "--yes", "--cold")
    assert ended.returncode == 0, ended.stderr
    assert spied.read_text().count("\n") >= 2
    assert SECRET not in spied.read_text()
    assert KEY_ID not in spied.read_text()
    spied.unlink()
    _demand_nowhere(shared.folder)


def test_no_program_of_postgresql_gets_the_credentials(shared: Project, proxy: Proxy) -> None:
    """Neither in its arguments nor in its environment, as whoever looks into /proc sees."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux shows another process's environment")
    proxy.fault = lambda method, path: "stall" if method == "PUT" and PART in path else None
    with shared.start("backup") as run:
        wait_for(lambda: any(PART in path for _, path in proxy.asked))
        parent = psutil.Process(run.pid)
        seen = [parent.cmdline(), *(_of(each) for each in parent.children(recursive=True))]
        run.kill()
        run.communicate()
    assert len(seen) > 1
    assert SECRET not in str(seen)


def _of(child: psutil.Process) -> str:
    with suppress(psutil.Error):
        return str((child.cmdline(), child.environ()))
    return ""


@pytest.mark.parametrize(
    "url", [f"s3://{KEY_ID}:{SECRET}@team/x", f"s3://team/x?AWSAccessKeyId={KEY_ID}&Signature=s"]
)
def test_a_url_with_credentials_is_refused(shared: Project, url: str) -> None:
    """In settings and in `--from`, by one line that does not repeat them."""
    said = failed(shared, "backups", code=2, BACKSET_BACKUPS=url)
    assert "a URL without credentials" in said
    assert "Signature" not in said
    failed(shared, "restore", "--from", url, code=2)
    failed(shared, "carry", "--from", url, code=2)


def _demand_nowhere(folder: Path) -> None:
    """Demand that no file of a project has the secret."""
    for each in folder.rglob("*"):
        if each.is_file() and not each.is_symlink():
            assert SECRET.encode() not in each.read_bytes(), each


@pytest.mark.parametrize(("package", "extra"), [("obstore.store", "s3"), ("pyrage", "age")])
def test_a_missing_package_is_named(
    shared: Project, monkeypatch: pytest.MonkeyPatch, package: str, extra: str
) -> None:
    """With the extra that brings it."""
    monkeypatch.setitem(sys.modules, package, None)
    key = str(pyrage.x25519.Identity.generate().to_public())
    said = failed(shared, "backup", code=2, BACKSET_BACKUP_RECIPIENTS=f'["{key}"]')
    assert f"with its extra {extra}" in said


# ---------------------------------------------------------------- encryption


def test_what_leaves_the_machine_is_encrypted_where_recipients_are_set(
    shared: Project, bucket: Bucket, tmp_path: Path
) -> None:
    """For each of the keys; nobody without one of them reads a row or a script."""
    keys = [pyrage.x25519.Identity.generate() for _ in range(2)]
    public = json.dumps([str(each.to_public()) for each in keys])
    shared.env["BACKSET_BACKUP_RECIPIENTS"] = public
    before = prints(shared)
    done(shared, "backup", "--name", "sealed")
    for each in bucket.listed():
        if "/sealed." in each and not each.endswith(".json"):
            assert bucket.get(each).startswith(b"age-encryption.org/v1")
    change(shared)
    said = failed(shared, "restore", "sealed", "--yes")
    assert "no key is known for it" in said
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.write_text(f"# a comment\n{keys[1]}\n")
    other.write_text(f"{pyrage.x25519.Identity.generate()}\n")
    said = failed(shared, "restore", "sealed", "--yes", BACKSET_BACKUP_IDENTITY=str(other))
    assert f"is not opened by {other}" in said
    said = failed(shared, "restore", "sealed", "--yes", BACKSET_BACKUP_IDENTITY="nowhere")
    assert "nowhere cannot be read" in said
    done(shared, "restore", "sealed", "--yes", BACKSET_BACKUP_IDENTITY=str(mine))
    assert prints(shared) == before


def test_a_recipient_that_is_no_key_is_refused(shared: Project, bucket: Bucket) -> None:
    """Before anything is dumped; and a folder takes no recipients, since it would not encrypt."""
    said = failed(shared, "backup", code=2, BACKSET_BACKUP_RECIPIENTS='["age1nonsense"]')
    assert "which is no public key" in said
    assert bucket.listed() == []
    said = failed(shared, "backup", code=2, BACKSET_BACKUP_RECIPIENTS='["bob"]')
    assert "a list of public keys" in said
    del shared.env["BACKSET_BACKUPS"]
    key = str(pyrage.x25519.Identity.generate().to_public())
    said = failed(shared, "backup", code=2, BACKSET_BACKUP_RECIPIENTS=f'["{key}"]')
    assert "not encrypted" in said


# ---------------------------------------------------------------- size


MEMORY_MB = 120
_LARGE = """
CREATE TABLE large AS SELECT n, (
    SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 32) WHERE n > 0
) AS text FROM generate_series(1, 60000) AS n
"""


def test_memory_stays_flat_and_no_dump_is_on_the_disk(shared: Project, bucket: Bucket) -> None:
    """A dump of many parts is neither in memory nor in a file, on its way out or in."""
    shared.query(_LARGE)
    done(shared, "backup", "--name", "small")  # imports
    peak = _peak_mb(shared, "backup", "--name", "large")
    assert peak <= MEMORY_MB
    (about,) = [
        each
        for each in json.loads(done(shared, "backups", "--json"))["backups"]
        if each["name"] == "large"
    ]
    assert about["parts"] >= 5
    assert _peak_mb(shared, "restore", "large", "--yes") <= MEMORY_MB


def _peak_mb(project: Project, *words: str) -> float:
    """Run a task; return the most memory that its process has used, 0 where nobody tells."""
    peak = 0.0
    with project.start(*words) as run:
        status = Path(f"/proc/{run.pid}/status")
        while run.poll() is None:
            with suppress(OSError):
                found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
                peak = max(peak, int(found[1]) * 1024 / 1e6 if found else 0)
            time.sleep(0.01)
        assert run.returncode == 0, run.communicate()
    return peak
