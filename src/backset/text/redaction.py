"""Pure: what of a text is not shown as it is: passwords in any spelling, and what would act.

Passwords by RE2: it takes a time that grows with the text and with nothing else, and other threads
go on meanwhile. What has several spellings for each character makes `re` try every combination of
them. What would act, does so on a terminal or in a log.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_BLANK = b"***"
_SHORT_CHARS = 3  # stars within a word would tell what stood there
_HARD_CHARS = 8
_MEMORY_BYTES = 256 << 20  # at most, for tokens of thousands of characters; else 60 times slower
_MOST = 1000  # blanked in one text; then the rest of it is left out
_SECRET_NAME = re.compile(r"password|passwd|secret|token|api_?key|hash|salt", re.IGNORECASE)
_IN_A_URL = r"://[^\s:/@]*:[^\s@/]*@"
_AS_A_KEYWORD = r"\b(?:ssl)?password=(?:'(?:[^'\\]|\\.)*'|[^&\s]+)"
_WORD = r"[\w\x80-\xff]*"
# Control characters, other ends of lines, what turns the direction of writing, halves of pairs.
_ACTING = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def blank(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the text without these secrets, and without any password inside a URL.

    One of a few characters takes along the word in which it stands.
    """
    line = _without(secrets, text.encode(errors="surrogatepass"))
    if b"://" in line:
        line = _blanked(_compiled(_IN_A_URL), line, _without_password)
    if b"password=" in line:
        line = _blanked(_compiled(_AS_A_KEYWORD), line, _without_value)
    return line.decode(errors="surrogatepass")


def unguessed(text: str, secrets: Iterable[str]) -> str:
    """Return a text of our own without these secrets, but for those that it shows by leaving out.

    Everybody can read what we write, and so what stood in the place of the stars. No word of ours
    is long and has other signs than letters.
    """
    hard = [each for each in secrets if len(each) >= _HARD_CHARS and not each.isalpha()]
    if not hard:
        return text
    return _without(hard, text.encode(errors="surrogatepass")).decode(errors="surrogatepass")


def value(column: str, text: str) -> str:
    """Return a value of a column as a message may show it: not where the name says it is secret."""
    return _BLANK.decode() if _SECRET_NAME.search(column) else text


def is_shown(text: str) -> bool:
    """Tell whether the words of others may be shown: they name nothing that would be secret."""
    return not _SECRET_NAME.search(text)


def _without(secrets: Iterable[str], line: bytes) -> bytes:
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        line = _blanked(_spelled(secret), line, lambda _found: _BLANK)
    return line


def _without_password(url: bytes) -> bytes:
    return url[: url.index(b":", len("://")) + 1] + _BLANK + b"@"


def _without_value(keyword: bytes) -> bytes:
    return keyword[: keyword.index(b"=") + 1] + _BLANK


def _blanked(pattern: Any, line: bytes, shown: Callable[[bytes], bytes]) -> bytes:  # noqa: ANN401  (RE2 has no types)
    pieces, end = [], 0
    for number, found in enumerate(pattern.finditer(line), 1):
        start, stop = found.span()
        pieces += [line[end:start], shown(line[start:stop])]
        end = stop
        if number == _MOST:
            return b"".join(pieces)
    return b"".join([*pieces, line[end:]]) if pieces else line


@cache
def _compiled(pattern: str) -> Any:  # noqa: ANN401  (RE2 has no types)
    """Return a pattern for bytes."""
    import re2  # noqa: PLC0415  (most runs have nothing to blank)

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = _MEMORY_BYTES
    options.log_errors = False  # it writes to stderr itself
    return re2.compile(pattern.encode("ascii"), options)


@cache
def _spelled(secret: str) -> Any:  # noqa: ANN401  (RE2 has no types)
    spellings = "".join(map(_spellings, secret))
    return _compiled(_WORD + spellings + _WORD if len(secret) <= _SHORT_CHARS else spellings)


def _spellings(character: str) -> str:
    """Return a pattern for one character of a secret, in each spelling that programs print.

    As it is, or doubled (SQL, ini files); after backslashes (repr, JSON, libpq); percent-encoded,
    `%` itself as `%%` or `%25`, once or more often; as an escape of Python or JSON; quoted for a
    shell.
    """
    code = character.encode(errors="surrogatepass")
    bare = _exactly(code)
    escapes = {ascii(character)[1:-1], json.dumps(character)[1:-1]}
    if len(code) == 1:  # some also escape what need not be
        escapes |= {f"\\x{code[0]:02x}", f"\\u{code[0]:04x}"}
    spellings = [
        "".join(f"%+(?:25)*(?i:{byte:02x})" for byte in code),
        *(_escaped(each) for each in sorted(escapes) if "\\" in each and each.strip("\\")),
        rf"\\*{bare}",
    ]
    if character in "'\"%":
        spellings.insert(0, bare + bare)
    if character == "'":
        spellings.insert(0, _exactly(b"'\"'\"'"))
    if character == " ":
        spellings.append(r"\+")
    return f"(?:{'|'.join(spellings)})"


def _escaped(escape: str) -> str:
    """Return a pattern for an escape, which may itself be escaped, as often as one likes."""
    return "(?i:" + "".join(rf"\\+{re.escape(each)}" for each in escape.split("\\")[1:]) + ")"


def _exactly(code: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in code)


def printable(text: str) -> str:
    """Return a text as one line that says what it has, and does nothing.

    What would act on a terminal is there as Python's escape. So is a part of what GitHub's runner
    would take for a command: `::` behind nothing but spaces, and `##[` anywhere.
    """
    if not text.isprintable():
        text = _ACTING.sub(lambda found: ascii(found[0])[1:-1], text)
    return no_command(text)


def no_command(text: str) -> str:
    """Return a text without a command of GitHub's runner, and with all of its other characters.

    For the runner a carriage return ends a line, too.
    """
    text = text.replace("##[", r"##\u005b")  # an escape of Python, of JSON and of TOML
    return "".join(map(_without_colon, text.splitlines(keepends=True)))


def _without_colon(text: str) -> str:
    rest = text.lstrip()
    return rf"{text[: -len(rest)]}\u003a{rest[1:]}" if rest.startswith("::") else text


def escaped(text: str) -> str:
    """Return a text in which what would act is an escape of JSON and of TOML."""
    return _ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
