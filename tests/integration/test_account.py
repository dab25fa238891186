"""What the process of Alembic notes of code that runs in it, and what of that counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from backset.alembic_worker import __main__ as worker
from backset.memory import inputs
from tests.marks import slow_but

if TYPE_CHECKING:
    from collections.abc import Callable

    Account = dict[str, Any]
    Noted = Callable[..., Account]

RUNS = """
import json, sys
sys.path.insert(0, {package!r})
from alembic_worker.tracer import InputTracer
tracer = InputTracer()
tracer.elsewhere.port = "5432"
sys.path[0] = ""
import own
print(json.dumps(tracer.account()))
"""


@pytest.fixture
def noted(tmp_path: Path) -> Noted:
    """Return what runs code of a project, and returns the account of it.

    own: the module that is imported, as people write it. library: of a module `library` that is
    installed; env: variables.
    """
    packages = tmp_path / "site-packages"
    packages.mkdir()
    project = tmp_path / "project"
    project.mkdir()

    def run(own: str, library: str = "", **env: str) -> Account:
        (project / "own.py").write_text(textwrap.dedent(own))
        (packages / "library.py").write_text(textwrap.dedent(library))
        code = RUNS.format(package=str(Path(worker.__file__).parents[1]))
        environ = {**os.environ, "PYTHONPATH": str(packages), **env}
        done = subprocess.run(
            [sys.executable, "-B", "-c", code],
            cwd=project,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        account: Account = json.loads(done.stdout.splitlines()[-1])
        return account

    return run


def changes(account: Account, name: str) -> bool:
    """Tell whether another value of a variable means another build."""
    environ = {"UNRELATED": "1", "HOME": "/", name: "before"}
    return inputs.variables(account, environ) != inputs.variables(
        account, {**environ, name: "after"}
    )


SETTINGS = """
from pydantic import AliasChoices, AliasPath, BaseModel, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

class Cache(BaseModel):
    host: str = ""

class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SHOP_", env_nested_delimiter="__")
    currency: str = "EUR"
    cache: Cache = Cache()
    secret: str = Field("", validation_alias="TOKEN")
    either: str = Field("", validation_alias=AliasChoices("FIRST", AliasPath("SECOND", 0)))

settings = Settings()
"""


def test_of_a_settings_class_its_fields_count(noted: Noted) -> None:
    """Prefixed, nested and by every alias; no other variable, although it goes through all."""
    account = noted(SETTINGS)
    assert "*" not in account["variables"]
    for name in ("SHOP_CURRENCY", "shop_currency", "SHOP_CACHE__HOST", "TOKEN", "FIRST", "SECOND"):
        assert changes(account, name), name
    for name in ("UNRELATED", "NEW_IN_THIS_TERMINAL", "SSH_AUTH_SOCK"):
        assert not changes(account, name), name


IMPORTS = (
    "from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource"
)
MORE_THAN_FIELDS = {
    "a source of its own": """
        class Source(EnvSettingsSource):
            pass

        class More(BaseSettings):
            pass

        More()
        """,
    "a source that is no class of variables": """
        class Source(PydanticBaseSettingsSource):
            def get_field_value(self, field, name):
                return None, name, False
            def __call__(self):
                return {}

        class More(BaseSettings):
            @classmethod
            def settings_customise_sources(cls, settings_cls, init_settings, env_settings, **more):
                return init_settings, Source(settings_cls)

        More()
        """,
    "a look into what the source has read": """
        class More(BaseSettings):
            @classmethod
            def settings_customise_sources(cls, settings_cls, init_settings, env_settings, **more):
                found = {"a": env_settings.env_vars.get("unrelated", "")}
                return init_settings, lambda: found
            a: str = ""

        More()
        """,
    "a source that is asked beside any class": """
        class More(BaseSettings):
            pass

        found = EnvSettingsSource(More).env_vars
        """,
    "a hook of the package": """
        class More(BaseSettings):
            @classmethod
            def _settings_build_values(cls, *args, **words):
                return super()._settings_build_values(*args, **words)

        More()
        """,
}


@pytest.mark.parametrize(
    ("what", "code"),
    slow_but(MORE_THAN_FIELDS.items(), lambda case: case[0] == "a source of its own"),
)
def test_who_reads_more_than_fields_reads_every_variable(
    noted: Noted, what: str, code: str
) -> None:
    """Nobody can tell which of them the project's own source takes."""
    account = noted(f"{IMPORTS}\n{textwrap.dedent(code)}")
    assert changes(account, "UNRELATED"), what
    assert not changes(account, "NO_COLOR")


@pytest.mark.slow
def test_sources_in_another_order_are_understood(noted: Noted) -> None:
    """A project that adds a file of TOML reads no more variables for that."""
    account = noted(
        """
        from pydantic_settings import BaseSettings, TomlConfigSettingsSource

        class Settings(BaseSettings):
            currency: str = ""

            @classmethod
            def settings_customise_sources(cls, settings_cls, init_settings, env_settings, **more):
                return env_settings, init_settings, TomlConfigSettingsSource(settings_cls)

        Settings()
        """
    )
    assert changes(account, "CURRENCY")
    assert not changes(account, "UNRELATED")


@pytest.mark.slow
def test_a_class_that_is_gone_has_counted(noted: Noted) -> None:
    """A class within a function is forgotten by Python; its fields are not."""
    account = noted(
        """
        import gc
        from pydantic_settings import BaseSettings

        def read():
            class Passing(BaseSettings):
                currency: str = ""
            return Passing(_env_prefix="ssh_").currency

        read()
        gc.collect()
        """
    )
    assert changes(account, "CURRENCY")
    assert changes(account, "SSH_CURRENCY")
    assert not changes(account, "SSH_TTY")


@pytest.mark.slow
def test_the_settings_of_pydantic_1_are_understood(noted: Noted) -> None:
    """Pydantic 2 has these classes still."""
    account = noted(
        """
        from pydantic.v1 import BaseSettings, Field

        class Settings(BaseSettings):
            currency: str = ""
            secret: str = Field("", env=["TOKEN", "KEY_OF_OLD"])

            class Config:
                env_prefix = "SHOP_"

        Settings()
        """
    )
    for name in ("SHOP_CURRENCY", "TOKEN", "KEY_OF_OLD"):
        assert changes(account, name), name
    assert not changes(account, "UNRELATED")


def test_of_a_dotenv_file_the_interpolated_variables_count(noted: Noted, tmp_path: Path) -> None:
    """Its reader goes through all variables to find the few that `${NAME}` asks for."""
    (tmp_path / "project/.env").write_text("WHERE=${PLACE:-here}/x\nPLAIN=1\n")
    account = noted(
        """
        import os
        from dotenv import load_dotenv

        load_dotenv(".env")
        assert os.environ["WHERE"] == "here/x"
        """
    )
    for name in ("PLACE", "WHERE", "PLAIN"):
        assert changes(account, name), name
    assert not changes(account, "UNRELATED")


@pytest.mark.slow
def test_who_looks_for_proxies_takes_no_other_variable(noted: Noted) -> None:
    """Every client of HTTP goes through all variables for that."""
    account = noted("import urllib.request\nurllib.request.getproxies()")
    assert changes(account, "HTTPS_PROXY")
    assert changes(account, "no_proxy")
    assert not changes(account, "UNRELATED")


@pytest.mark.slow
@pytest.mark.parametrize("code", ["find_library('c')", "platform.uname()", "uuid.getnode()"])
def test_who_copies_the_environment_for_a_program_takes_no_variable(
    noted: Noted, code: str
) -> None:
    """What the program says is judged by the program."""
    account = noted(f"import platform, uuid\nfrom ctypes.util import find_library\n{code}")
    assert not changes(account, "UNRELATED")


@pytest.mark.parametrize(
    ("own", "library", "counts"),
    slow_but(
        [
            ("import library", "import os\nos.environ.get('NO_COLOR')", False),
            ("import os\ndict(os.environ)", "", False),
            ("import os\n{**os.environ}", "", False),
            ("import os\nos.environ.get('NO_COLOR')", "", True),
            ("import os\nos.getenvb(b'NO_COLOR')", "", True),
            ("import library\nlibrary.flag('NO_COLOR')", "import os\nflag = os.environ.get", True),
            (
                "import library\nfor name in ('CI', 'NO_COLOR'):\n    library.flag(name)",
                "import os\n\ndef flag(name):\n    return os.getenv(name)",
                True,
            ),
            (f"{IMPORTS}\nclass S(BaseSettings):\n    no_color: bool = False\nS()", "", True),
        ],
        lambda case: "library" in case[0] and "for" not in case[0],
    ),
)
def test_noise_counts_where_peoples_code_names_it(
    noted: Noted, own: str, library: str, *, counts: bool
) -> None:
    """A library that colours its output builds nothing else without colours."""
    assert changes(noted(own, library), "NO_COLOR") == counts


@pytest.mark.slow
def test_a_variable_that_a_library_names_counts(noted: Noted) -> None:
    """Unless it is noise: what a library does may depend on it."""
    account = noted("import library", "import os\nos.environ.get('LIBRARY_MODE')")
    assert changes(account, "LIBRARY_MODE")
    assert not changes(account, "UNRELATED")


def test_a_package_that_was_installed_from_a_folder_is_peoples_code(
    noted: Noted, tmp_path: Path
) -> None:
    """`pip install .` puts the project beside its libraries, and notes where it came from."""
    about = tmp_path / "site-packages/library-1.dist-info"
    about.mkdir()
    (about / "RECORD").write_text("library.py,,\n")
    library = "import os, subprocess\nos.environ.get('CI')\nsubprocess.run(['true'], check=True)"
    account = noted("import library", library)
    assert (account["unknown"], changes(account, "CI")) == ({}, False)
    (about / "direct_url.json").write_text('{"url": "file:///shop", "dir_info": {}}')
    account = noted("import library", library)
    assert (list(account["unknown"]), changes(account, "CI")) == (["starts true"], True)


FINDS = "from ctypes.util import find_library\nfind_library('c')\nfind_library('no_such')\n"
STARTS = "import subprocess\nsubprocess.run(['PROGRAM', '--version'])\n"
LATER = f"def start():\n{textwrap.indent(STARTS, '    ')}"
SHELL = "import subprocess\nsubprocess.run('PROGRAM; true', shell=True)"
SPAWNS = "import os\nos.waitpid(os.posix_spawn('PROGRAM', ['known'], {}), 0)"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program of our own."""
    path = tmp_path / "bin/known"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\necho 1\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("own", "library", "unknown"),
    slow_but(
        [
            ("import library", STARTS, []),
            (f"def f():\n{textwrap.indent(FINDS, '    ')}\nf()", "", []),
            (STARTS, "", ["starts known"]),
            ("import library\nlibrary.start()", LATER, ["starts known"]),
            ("import library", SHELL, ["starts sh"]),
            ("import os\nos.system('PROGRAM --version')", "", ["starts known"]),
            ("import os\nos.system('PROGRAM | cat')", "", ["starts sh"]),
            (SPAWNS, "", ["starts known"]),
            ("import library", "import os\nif not os.fork():\n    os._exit(0)", ["forks"]),
        ],
        lambda case: STARTS in case,
    ),
)
def test_who_starts_a_program_decides_whether_it_is_known(
    noted: Noted, program: Path, own: str, library: str, unknown: list[str]
) -> None:
    """Of a library that is imported its file counts; of people's code nobody knows what it says."""
    own, library = (each.replace("PROGRAM", str(program)) for each in (own, library))
    account = noted(own, library)
    assert sorted(account["unknown"]) == unknown
    assert (str(program) in account["programs"]) == (bool(library) and not unknown)


def test_another_program_of_that_name_changes_what_is_built(noted: Noted, program: Path) -> None:
    """By its size or its time, where it was found, and where it would be found before that."""
    first = program.parent.with_name("first")
    first.mkdir()
    path = f"{first}:{program.parent}:{os.environ['PATH']}"
    account = noted("import library", STARTS.replace("PROGRAM", "known"), PATH=path)
    before = inputs.parts(account, [])
    assert inputs.difference(before, inputs.parts(account, []), Path()) == ""
    (first / "known").write_text("")
    after = inputs.parts(account, [])
    assert inputs.difference(before, after, Path()) == f"the program {first}/known has changed"
    (first / "known").unlink()
    program.write_text("#!/bin/sh\necho 12\n")
    after = inputs.parts(account, [])
    assert inputs.difference(before, after, Path()) == f"the program {program} has changed"


SERVER = """
import _socket, asyncio, os, socket, ssl, threading, urllib.request
here = "127.0.0.1"
listening = socket.create_server((here, 0))
port = listening.getsockname()[1]

def answer():
    client, _ = listening.accept()
    client.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nhello")
    client.close()

threading.Thread(target=answer, daemon=True).start()
dead = socket.create_server((here, 0))
gone = dead.getsockname()[1]
dead.close()

def said():
    client = socket.create_connection((here, port))
    client.sendall(b"x")
    return client

def udp():
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

bound = udp()
bound.bind((here, 0))

async def get(port):
    try:
        reader, _ = await asyncio.open_connection(here, port)
        await reader.read()
    except OSError:
        pass

def tls():
    try:
        ssl.create_default_context().wrap_socket(said(), server_hostname="x").read(1)
    except OSError:
        pass

def refused():
    try:
        socket.create_connection((here, gone))
    except OSError:
        pass

def ping():
    client = udp()
    client.connect(bound.getsockname())
    client.send(b"x")
    client.sendto(b"x", bound.getsockname())

def pair():
    one, other = socket.socketpair()
    one.send(b"x")
    other.recv(1)
"""
READS, CANNOT = "reads from 127.0.0.1:", "cannot connect to 127.0.0.1:"


@pytest.mark.parametrize(
    ("code", "words"),
    slow_but(
        [
            ("said()", ""),
            ("ping()", ""),
            ("pair()", ""),
            ("said().recv(1)", READS),
            ("said().recv_into(bytearray(1))", READS),
            ("said().recvmsg(1)", READS),
            ("said().makefile().readline()", READS),
            ("os.read(said().detach(), 1)", READS),
            ("_socket.socket().connect((here, port))", READS),
            ("ping()\nbound.recvfrom(1)", READS),
            ("asyncio.run(get(port))", READS),
            ("tls()", READS),
            ("urllib.request.urlopen(f'http://localhost:{port}')", "reads from localhost:"),
            ("refused()", CANNOT),
            ("socket.socket().connect_ex((here, gone))", CANNOT),
            ("asyncio.run(get(gone))", CANNOT),
        ],
        lambda case: case[0] in {"said()", "said().recv(1)", "refused()"},
    ),
)
def test_a_server_counts_once_it_is_heard(noted: Noted, code: str, words: str) -> None:
    """What is only told something changes nothing; that nobody answers may."""
    unknown = noted(f"{SERVER}\n{code}\n")["unknown"]
    assert [f"{each.rpartition(':')[0]}:" for each in unknown] == ([words] if words else [])


@pytest.mark.slow
def test_the_agreed_server_may_be_heard(noted: Noted) -> None:
    """Its port is that of the database that is built."""
    agreed = """
        import gc
        said().recv(1)
        everything = gc.get_objects()
        next(each for each in everything if type(each).__name__ == "Elsewhere").port = str(port)
        """
    assert noted(SERVER + textwrap.dedent(agreed))["unknown"] == {}


def test_a_copy_of_all_variables_may_be_asked_for_any(noted: Noted) -> None:
    """`CI` chooses a database in many projects; what a library asks for by name does not count."""
    account = noted("import os\nhas = 'CI' in dict(os.environ)\n")
    assert all(changes(account, name) for name in ("CI", "SSH_SHOP_DB", "ANY"))
    assert not any(changes(account, name) for name in ("TERM", "SSH_AUTH_SOCK"))


def test_what_python_and_libpq_read_by_themselves_counts(noted: Noted) -> None:
    """Nobody hears of it: other modules are found, `assert` is left out, times are others."""
    account = noted("")
    assert all(changes(account, name) for name in ("PYTHONPATH", "PYTHONOPTIMIZE", "TZ", "PGTZ"))


LOOKS = """
import glob, importlib, importlib.util, json, os
from pathlib import Path

def optional(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None

optional("plugin")
importlib.util.find_spec("addon")
os.makedirs("data/one", exist_ok=True)
Path("data/settings.json").write_text("[]") if not Path("data/settings.json").exists() else None
known = json.loads(Path("data/settings.json").read_text())
glob.glob("data/*/seed.sql")
"""


def test_what_was_not_found_counts_however_it_was_looked_for(noted: Noted, tmp_path: Path) -> None:
    """By importlib, where no import is heard of, and by `lstat`, as glob does."""
    account = noted(LOOKS)
    before = inputs.parts(account, [])
    assert {"plugin", "addon"} <= {*account["tried"]}
    for name in ("project/plugin.py", "site-packages/addon", "project/data/one/seed.sql"):
        path = tmp_path / name
        path.touch()
        assert inputs.parts(account, []) != before, name
        path.unlink()


def test_what_is_read_and_then_written_counts(noted: Noted, tmp_path: Path) -> None:
    """Settings that are put in order when they are read are settings still."""
    file = tmp_path / "project" / "settings.txt"
    file.write_text("b a")
    account = noted(
        """
        from pathlib import Path

        words = Path("settings.txt").read_text().split()
        Path("settings.txt").write_text(" ".join(sorted(words)))
        """
    )
    assert str(file) in account["files"]


def test_a_database_of_sqlite_that_is_named_by_a_uri_counts(noted: Noted, tmp_path: Path) -> None:
    """As its file."""
    file = tmp_path / "project" / "my rates.db"
    file.touch()
    account = noted("import sqlite3\nsqlite3.connect('file:my%20rates.db?mode=ro', uri=True)\n")
    assert str(file) in account["files"]


def test_a_process_that_is_spawned_may_read_anything(noted: Noted) -> None:
    """No audit event tells of a process that multiprocessing does not fork."""
    spawned = "get_context('spawn').Process(target=print)"
    account = noted(
        f"from multiprocessing import get_context\nit = {spawned}\nit.start()\nit.join()\n"
    )
    assert "forks" in account["unknown"]


def test_what_is_temporary_does_not_count(noted: Noted) -> None:
    """Its name is another one each time, so a run that looks at it could never be cloned."""
    account = noted(
        """
        import os, tempfile
        from pathlib import Path

        with tempfile.TemporaryDirectory() as name, tempfile.NamedTemporaryFile() as file:
            Path(name, "below").mkdir()
            found = [*Path(name).rglob("*")], os.path.lexists(file.name), os.path.exists(name)
        """
    )
    assert not inputs.restless(account, [], sys.maxsize)


def test_a_log_that_is_called_as_the_package_counts_for_nothing(
    noted: Noted, tmp_path: Path
) -> None:
    """`shop.log` beside `shop` is written in each run, and nobody could import it."""
    account = noted("")
    before = inputs.parts(account, [])
    project = tmp_path / "project"
    (project / "own.log").touch()
    assert inputs.parts(account, []) == before
    (project / "own.so").touch()
    assert inputs.parts(account, []) != before
