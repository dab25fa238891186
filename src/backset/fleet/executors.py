"""Who does the jobs: threads of this machine, or a Dask cluster; both by `concurrent.futures`."""

from __future__ import annotations

import logging
import platform
import re
import warnings
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backset.errors import SettingsError, StepFailedError
from backset.fleet import hand

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.fleet.members import Site

_EXTRA = "install backset with its extra fleet, or the package distributed beside it"
_LOOKS = 8  # at once: most of a look is waiting for the server
_CONNECT_S = 10
_COMPARED = ("backset", "distributed", "dask", "cloudpickle", "msgpack", "python")


@dataclass(frozen=True, slots=True)
class Executors:
    """What looks at databases, and what works on them; number: of jobs at once.

    is_remote: whether that is elsewhere, where a job cannot be interrupted.
    """

    looks: Executor
    works: Executor
    number: int
    is_remote: bool = False

    def interrupt(self) -> None:
        """Let what is at work end as interrupted runs do, where it can be reached."""
        if not self.is_remote:
            hand.interrupt_all()


@contextmanager
def here(number: int) -> Iterator[Executors]:
    """Give threads of this process, each with a process for the jobs that it takes."""
    with ExitStack() as stack:
        stack.callback(hand.end_all)  # when their threads have ended
        looks, works = (stack.enter_context(ThreadPoolExecutor(each)) for each in (_LOOKS, number))
        try:
            yield Executors(looks, works, number)
        except BaseException:
            hand.interrupt_all()  # the threads are waited for, and so what they wait for
            raise


@contextmanager
def on_dask(address: str, site: Site, number: int | None) -> Iterator[Executors]:
    """Give the executor of a cluster. Raises SettingsError where that cannot do the work.

    number: of jobs at once; None is that of the cluster's threads.
    """
    try:
        import distributed
    except ModuleNotFoundError:
        raise SettingsError([("--dask needs the package distributed", _EXTRA)]) from None
    _demand_address(address)
    with _quiet(), _client(distributed, address) as client:
        threads = _demand_fit(client, address, site)
        with client.get_executor(pure=False, retries=0) as executor:
            yield Executors(executor, executor, number or threads, is_remote=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let Dask print nothing of its own: what is wrong is told in our lines."""
    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _client(distributed: Any, address: str) -> Any:  # noqa: ANN401  (Dask's)
    try:
        return distributed.Client(address, timeout=_CONNECT_S, set_as_default=False)
    except Exception as error:  # noqa: BLE001  (of a network, or of another version's messages)
        words = re.sub(r"\s+", " ", str(error)) or type(error).__name__
        remedy = f"start the scheduler, or correct the address; this is Dask {version('dask')}"
        raise SettingsError([(f"--dask {address}: {words}", remedy)]) from None


def _demand_address(address: str) -> None:
    if not re.fullmatch(r"(tcp|tls|ucx|ws|wss|inproc)://[^\s@]+", address):
        what = "--dask is no address of a scheduler"
        raise SettingsError([(what, "write it as --dask tcp://host:8786")])


def _demand_fit(client: Any, address: str, site: Site) -> int:  # noqa: ANN401  (Dask's)
    """Return how many threads the workers have. Raises SettingsError where they are no match."""
    threads = int(sum(client.nthreads().values()))
    if not threads:
        raise SettingsError([(f"--dask {address} has no worker", "start one: dask worker …")])
    try:
        found = client.run(about, site.folder)
    except Exception as error:  # noqa: BLE001  (what a worker raises that has no backset)
        words = re.sub(r"\s+", " ", str(error))
        what = f"--dask {address}: a worker cannot run backset: {words}"
        raise SettingsError(
            [(what, "install backset of this version there, with its extra fleet")]
        ) from None
    found[address] = {**about(site.folder), **_of_scheduler(client)}
    own, problems = about(site.folder), []
    for where, theirs in found.items():
        others = [
            f"{name} {theirs[name] or 'missing'} (here {own[name]})"
            for name in _COMPARED
            if theirs[name] != own[name]
        ]
        if others:
            what = f"--dask: {where} has {', '.join(others)}"
            problems.append((what, "give each machine of the cluster the same versions"))
        elif not theirs["folder"]:
            what = f"--dask: {where} has no folder {site.folder}"
            problems.append((what, "give each worker the project at the same path"))
    if problems:
        raise SettingsError(problems)
    return threads


def _of_scheduler(client: Any) -> dict[str, str]:  # noqa: ANN401  (Dask's)
    """Return the versions that the scheduler says of itself; it need not have backset."""
    told = client.get_versions()["scheduler"] or {}
    packages = told.get("packages", {})
    names = [each for each in _COMPARED if each in packages and each != "python"]
    return {name: str(packages[name]) for name in names if packages[name]}


def about(folder: str) -> dict[str, str]:
    """Return the versions here, and whether the project's folder is there; runs on a worker."""
    found = {name: _version(name) for name in _COMPARED if name != "python"}
    python = ".".join(platform.python_version_tuple()[:2])
    return {**found, "python": python, "folder": folder if Path(folder).is_dir() else ""}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def refused(error: BaseException) -> StepFailedError:
    """Return what a person reads where the cluster itself has given a job up."""
    words = re.sub(r"\s+", " ", str(error)) or type(error).__name__
    return StepFailedError(words, "see the log of the scheduler, then run this again")
