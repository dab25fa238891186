"""What others have written does nothing on a terminal and in GitHub's log."""

from __future__ import annotations

import json
import tomllib

import pytest

from backset.text import pasted, redaction

# ESC [ 2 J empties a screen, 8-bit CSI is ESC [ in one, OSC 52 writes to a clipboard.
ACTING = ["\x1b[2J", "\x9b2J", "\x1b]52;c;eA==\x07", "\r", "\n", "\b", "\0", "\x7f", "\x85"]
ACTING += ["\u2028", "\u202e", "\u2066", "\ud83d"]


@pytest.mark.parametrize("text", ACTING, ids=ascii)
def test_nothing_that_acts_goes_out(text: str) -> None:
    """It is there as an escape, so that one can see it; what stands around it is as it was."""
    shown = redaction.printable(f"tasks {text} é 🐘 ü")
    assert shown.isprintable()
    assert shown == f"tasks {ascii(text)[1:-1]} é 🐘 ü"


@pytest.mark.parametrize(
    "text", ["", "a  b", "日本語\u3000\xa0", "👩\u200d💻", r"C:\x1b", "a::b", "# [x]"]
)
def test_what_does_not_act_stays_as_it_is(text: str) -> None:
    """Other people's letters, spaces and joined signs included."""
    assert redaction.printable(text) == redaction.no_command(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "::error::x",
        "  ::add-mask::x",
        "\xa0\u2003::stop-commands::x",
        "::::",
        "x ##[error]y",
        "##[##[group]",
        "a\r::error::x",
        "a\r\n \t::error::x\n",
        "\r\r::error::x",
    ],
)
def test_nothing_is_a_command_of_githubs_runner(text: str) -> None:
    """Which takes spaces away, and ends a line at a carriage return; `##[` counts anywhere."""
    for shown in (redaction.no_command(text), redaction.printable(text)):
        assert "##[" not in shown
        assert [each for each in shown.splitlines() if each.lstrip().startswith("::")] == []
        assert redaction.no_command(shown) == shown
    assert "\n" not in redaction.printable(text)


def test_json_and_toml_have_the_truth() -> None:
    """Their readers get every character back; what is printed of them does nothing."""
    truth = {"a": "".join(ACTING[:-1]) + "::x ##[error]y"}
    printed = redaction.no_command(json.dumps(truth))
    assert (printed.isprintable(), json.loads(printed)) == (True, truth)
    printed = redaction.printable(f"it = {pasted.string(truth['a'])}")
    assert tomllib.loads(printed)["it"] == truth["a"]
