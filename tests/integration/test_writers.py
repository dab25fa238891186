"""Applications that go on writing while their database is rebuilt lose no row that was committed.

Each of them believes a COMMIT that came back. Whether the run is promoted or refused, the database
that stands under the name of the target afterwards has all those rows.
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
import pytest

from backset.errors import StepFailedError
from tests.integration.carries import EVERYTHING, Carry, built, copied

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backset.servers.cluster import Cluster

WRITERS = 3
RUNS = 8


@dataclass
class Writer:
    """An application: it connects, commits rows at some pace, and connects again when thrown out.

    committed: the rows whose COMMIT came back.
    """

    url: str
    first: int
    pause_s: float
    start_s: float
    most: int
    over: threading.Event
    committed: list[int] = field(default_factory=list)

    def work(self) -> None:
        """Write until it is over, or enough was written."""
        self.over.wait(self.start_s)
        number = self.first
        while not self.over.is_set() and number < self.first + self.most:
            try:
                with closing(psycopg.connect(self.url, autocommit=True)) as session:
                    while not self.over.is_set() and number < self.first + self.most:
                        number += 3
                        self._commit(session, number)
                        self.over.wait(self.pause_s)
            except psycopg.Error:
                pass  # thrown out; whether the last COMMIT was done, it does not know

    def _commit(self, session: psycopg.Connection[object], number: int) -> None:
        """Commit three rows: alone, together, by COPY or in two phases."""
        insert = "INSERT INTO tasks VALUES (%s, 'mine')"
        three = [number, number + 1, number + 2]
        how = number // 3 % 4
        if how == 0:
            for each in three:
                session.execute(insert, [each])
                self.committed.append(each)
            return
        with session.transaction():
            if how == 1:
                with session.cursor().copy("COPY tasks (id) FROM STDIN") as copy:
                    for each in three:
                        copy.write_row([each])
            else:
                for each in three:
                    with session.transaction():
                        session.execute(insert, [each])
        self.committed += three


@contextmanager
def writing(url: str, dice: random.Random) -> Iterator[list[Writer]]:
    """Let some applications write for the block; which, how much and when is diced."""
    over = threading.Event()
    writers = [
        Writer(
            url=url,
            first=1_000_000 * (number + 1),
            pause_s=dice.choice([0, 0, 0.001, 0.02]),
            start_s=dice.uniform(0, 0.5),
            most=dice.choice([3, 3, 30, 100_000]),
            over=over,
        )
        for number in range(dice.randint(1, WRITERS))
    ]
    threads = [threading.Thread(target=each.work) for each in writers]
    for thread in threads:
        thread.start()
    try:
        yield writers
    finally:
        over.set()
        for thread in threads:
            thread.join()


def run(cluster: Cluster, seed: int) -> bool:
    """Carry while applications write; tell whether it was promoted."""
    dice = random.Random(seed)  # noqa: S311  (it has to be repeatable)
    with built(cluster) as server:
        url = cluster.url(server.names.target)
        with writing(url, dice) as writers:
            time.sleep(dice.uniform(0, 0.5))
            carry = Carry(cluster, server, copied(server, EVERYTHING))
            with suppress(StepFailedError):
                carry.promote()
            promoted = carry.is_promoted
        found, committed = rows(url), {each for writer in writers for each in writer.committed}
        assert committed - found == set(), f"lost with seed {seed}, promoted: {promoted}"
        assert {1, 2} <= found
        return promoted


def rows(url: str) -> set[int]:
    """Return the rows that stand in a database."""
    with closing(psycopg.connect(url)) as session:
        return {each for (each,) in session.execute("SELECT id FROM tasks").fetchall()}


def test_no_row_that_was_committed_is_lost(writable: Cluster) -> None:
    """However the writes fall before, into and after the copy and the swap."""
    for _ in range(RUNS):
        run(writable, random.SystemRandom().getrandbits(32))


def test_who_rests_while_the_rows_are_copied_does_not_stop_the_run(writable: Cluster) -> None:
    """It writes before and after, over a session that it keeps, and all of it is there."""
    with built(writable) as server:
        url, over = writable.url(server.names.target), threading.Event()
        writer = Writer(url=url, first=3, pause_s=0, start_s=0, most=30, over=over)
        with closing(psycopg.connect(url, autocommit=True)) as kept:
            kept.execute("INSERT INTO tasks VALUES (100)")
            writer.work()
            carry = Carry(writable, server, copied(server, EVERYTHING))
            carry.promote()
        Writer(url=url, first=300, pause_s=0, start_s=0, most=30, over=over).work()
        assert carry.is_promoted
        assert {*writer.committed, 100, 303} <= rows(url)


def test_a_writer_that_never_rests_is_never_robbed(writable: Cluster) -> None:
    """A thousand rows a second: the run is refused, and every one of them is in the target."""
    with built(writable) as server:
        url, over = writable.url(server.names.target), threading.Event()
        writer = Writer(url=url, first=3, pause_s=0, start_s=0, most=10**9, over=over)
        thread = threading.Thread(target=writer.work)
        thread.start()
        try:
            while not writer.committed:
                time.sleep(0.01)
            carry = Carry(writable, server, copied(server, EVERYTHING))
            with pytest.raises(StepFailedError, match="written to"):
                carry.promote()
        finally:
            over.set()
            thread.join()
        assert not carry.is_promoted
        assert {*writer.committed} <= rows(url)
