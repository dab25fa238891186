"""A URL means what libpq says it means, whoever spelled it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from psycopg.conninfo import conninfo_to_dict

from backset.connections.target import Target, derived_name
from backset.errors import SettingsError

PASSWORD = "p%40ss%25w%3Aord"


@pytest.mark.parametrize(
    "scheme",
    [
        "postgres",
        "postgresql",
        "postgresql+psycopg",
        "postgresql+asyncpg",
        "postgresql+psycopg2",
        "postgresql+pg8000",
    ],
)
def test_every_spelling_is_the_same_database(scheme: str) -> None:
    """Libpq understands the URL of every driver, and the spelling survives a change of name."""
    target = Target.parse(f"{scheme}://me:{PASSWORD}@host:5433/app")
    assert target.params == {
        "user": "me",
        "password": "p@ss%w:ord",
        "host": "host",
        "port": "5433",
        "dbname": "app",
    }
    assert target.named("app__next").url == f"{scheme}://me:{PASSWORD}@host:5433/app__next"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("ssl=require", {"sslmode": "require"}),
        ("ssl=true", {"sslmode": "require"}),
        (
            "ssl=verify-full&sslrootcert=%2Fca.pem",
            {"sslmode": "verify-full", "sslrootcert": "/ca.pem"},
        ),
        ("timeout=2.5", {"connect_timeout": "3"}),
        ("statement_cache_size=0&prepared_statement_cache_size=0", {}),
        ("server_settings=x&application_name=me", {"application_name": "me"}),
        ("unix_sock=%2Ftmp%2Fa%2F.s.PGSQL.5444", {"host": "/tmp/a", "port": "5444"}),
        ("host=/tmp%2Fa%20b", {"host": "/tmp/a b"}),
        ("options=-c%20search_path%3Da", {"options": "-c search_path=a"}),
    ],
)
def test_driver_only_parameters_are_translated_or_dropped(
    query: str, expected: dict[str, str]
) -> None:
    """What only a driver knows does not stop libpq."""
    assert Target.parse(f"postgresql:///app?{query}").params == {"dbname": "app", **expected}


@pytest.mark.parametrize(
    ("url", "host", "database"),
    [
        ("postgresql://u@localhost/db?host=prod.example.com", "prod.example.com", "db"),
        ("postgresql://u@localhost/db?dbname=other", "localhost", "other"),
        ("postgresql://u@[::1]:5432/db", "::1", "db"),
    ],
)
def test_the_text_before_the_question_mark_may_lie(url: str, host: str, database: str) -> None:
    """Libpq's parser decides host and database, also in the renamed URL."""
    target = Target.parse(url)
    assert (target.params["host"], target.database) == (host, database)
    other = target.named("x y/z")
    assert other.params == {**target.params, "dbname": "x y/z"}


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("mysql://u@h/db", "is not a PostgreSQL URL"),
        ("host=localhost dbname=app", "is not a PostgreSQL URL"),
        ("postgresql://u:secret%zz@h/db", "cannot be read by libpq"),
        ("postgresql://u:secret@h", "names no database"),
        ("postgresql://u:secret@h/db?sslmod=require", "unknown parameter 'sslmod'"),
        ("postgresql://u:secret@h/db?port=1&port=2", "gives 'port' twice"),
        ("postgresql://u:sec@ret@h/db", "is not a PostgreSQL URL"),
        ("postgresql://u:12/secret@h/db", "is not a PostgreSQL URL"),
        ("postgresql://u:secret%e9@h/db", "cannot be read by libpq"),
        (f"postgresql://u:secret@h/{'n' * 64}", "names a database of over 63 bytes"),
        ("postgresql://u:secret@h/db?sslpassword=secret", "which pg_dump would show"),
    ],
)
def test_a_bad_url_ends_in_one_line_without_its_password(url: str, word: str) -> None:
    """The message says what is wrong and where, and never shows the secret."""
    with pytest.raises(SettingsError) as caught:
        Target.parse(url, "the environment: DATABASE_URL")
    (line,) = caught.value.lines()
    assert word in line
    assert line.startswith("the environment: DATABASE_URL")
    assert "secret" not in line


@pytest.mark.parametrize(
    ("url", "alone"),
    [
        (
            "postgresql://u:p@a,b:1/db?target_session_attrs=read-write&sslmode=disable",
            ["postgresql://u:p@a/db?sslmode=disable", "postgresql://u:p@b:1/db?sslmode=disable"],
        ),
        (
            "postgresql+psycopg://u@/db?host=a:1&host=b:2",
            ["postgresql+psycopg://u@a:1/db", "postgresql+psycopg://u@b:2/db"],
        ),
        (
            "postgresql://u@/db?host=/tmp,/run&port=1,2",
            ["postgresql://u@/db?host=/tmp&port=1", "postgresql://u@/db?host=/run&port=2"],
        ),
        (
            "postgresql://u@[::1],h/db?hostaddr=::1,10.0.0.1&port=7",
            [
                "postgresql://u@[::1]:7/db?hostaddr=%3A%3A1",
                "postgresql://u@h:7/db?hostaddr=10.0.0.1",
            ],
        ),
        (
            "postgresql+psycopg://u@/db?host=a%3A1&host=b%3a2",
            ["postgresql+psycopg://u@a:1/db", "postgresql+psycopg://u@b:2/db"],
        ),
        (
            "postgresql://u@[fe80::1%25eth0],h/db",
            ["postgresql://u@[fe80::1%25eth0]/db", "postgresql://u@h/db"],
        ),
        ("postgresql://u@a/db", ["postgresql://u@a/db"]),
    ],
)
def test_each_of_several_hosts_has_a_url_of_its_own(url: str, alone: list[str]) -> None:
    """In the same spelling, and as libpq reads it."""
    each = Target.parse(url).at_each_host()
    assert [one.url for one in each] == alone
    assert [one.params for one in each] == [Target.parse(one).params for one in alone]


def test_another_database_is_that_at_each_host() -> None:
    """Whoever asks a standby asks it for the same database."""
    primary, standby = Target.parse("postgresql://u@a,b/db").at_each_host()
    other = replace(primary, others=(standby,)).named("next")
    assert [each.url for each in (other, *other.others)] == [
        "postgresql://u@a/next",
        "postgresql://u@b/next",
    ]


def test_hosts_and_ports_must_match() -> None:
    """One port is for all hosts; else each has its own."""
    with pytest.raises(SettingsError, match="names 2 hosts, and not a port or hostaddr for each"):
        Target.parse("postgresql://u@/db?host=a,b&port=1,2,3").at_each_host()


def test_all_bad_parameters_are_named_at_once() -> None:
    """One look is enough to correct the URL."""
    with pytest.raises(SettingsError) as caught:
        Target.parse("postgresql://h/db?foo=1&bar=2")
    assert [line.split("'")[1] for line in caught.value.lines()] == ["foo", "bar"]


def test_secrets_stay_out_of_sight() -> None:
    """Neither repr, nor the shown URL, nor the connection string for argv has the password."""
    target = Target.parse(f"postgresql://me:{PASSWORD}@h/app?password={PASSWORD}&sslmode=require")
    for text in (repr(target), target.shown, target.conninfo):
        assert PASSWORD not in text
        assert "p@ss%w:ord" not in text
    assert target.shown == "postgresql://me@h/app?sslmode=require"
    assert target.secret_env == {"PGPASSWORD": "p@ss%w:ord"}


def test_a_childs_output_is_redacted() -> None:
    """The password is blanked as it is, percent-encoded, and inside any URL."""
    target = Target.parse(f"postgresql://me:{PASSWORD}@h/app")
    text = f"p@ss%w:ord {PASSWORD} postgresql+asyncpg://other:unknown@h/x"
    assert target.redact(text) == "*** *** postgresql+asyncpg://other:***@h/x"


def test_a_password_that_equals_a_public_word_spares_that_word() -> None:
    """`app` as user, password and database does not turn every message into stars."""
    target = Target.parse("postgresql://app:app@h/app")
    assert target.redact("database app does not exist") == "database app does not exist"


@pytest.mark.parametrize("database", ["a", "a" * 63, "é" * 31, "数" * 21])
@pytest.mark.parametrize("suffix", ["__next", "__previous", "__discard"])
def test_derived_names_fit_into_63_bytes(database: str, suffix: str) -> None:
    """PostgreSQL would cut a longer name silently, and two names could become one."""
    name = derived_name(database, suffix)
    assert len(name.encode()) <= 63
    assert name.endswith(suffix)
    assert name != derived_name(database[:-1] + "b", suffix)


def test_long_names_that_are_cut_alike_derive_different_ones() -> None:
    """The first 8 hex digits of the hash of these two agree, and so does all that is not cut."""
    begin = "a_database_with_a_name_that_is_as_long_as_it_may_be_xxx000"
    first, second = (derived_name(f"{begin}{end}", "__previous") for end in ("1470d", "14ecc"))
    assert first[:36] == second[:36]
    assert first != second


@pytest.mark.parametrize("user", ["", "me@", "me:se-cr_et.1@", "a~b@"])
@pytest.mark.parametrize("host", ["", "db", "db.example-1:6432", "127.0.0.1:5432", ":5433"])
@pytest.mark.parametrize("database", ["", "app", "app-2_x"])
@pytest.mark.parametrize("query", ["", "host=/run/pg", "host=%2Frun", "port=5444", "sslmode=allow"])
def test_a_plain_url_means_what_libpq_says(user: str, host: str, database: str, query: str) -> None:
    """What is read without libpq, to begin sooner, is what libpq reads."""
    url = f"postgresql://{user}{host}/{database}" + (f"?{query}" if query else "")
    if "dbname" not in (expected := conninfo_to_dict(url)):
        with pytest.raises(SettingsError):
            Target.parse(url)
    else:
        assert Target.parse(url).params == expected
