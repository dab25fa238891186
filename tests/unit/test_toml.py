"""Settings that people paste: valid TOML, as it is."""

from __future__ import annotations

import tomllib

from backset.errors import Setting
from backset.wording import toml

FILL, BACKSET = "tool.backset.fill", "tool.backset"


def test_settings_are_put_together_by_their_tables() -> None:
    """Each header comes once, and a list has what all of them want, once."""
    block = toml.block(
        [
            Setting(table=BACKSET, key="leave", value=('"a"', '"b"')),
            Setting(table=FILL, key='"t.x"', value=toml.string("'it''s \"1\"'")),
            Setting(table=BACKSET, key="leave", value=('"a"', '"c"')),
        ]
    )
    assert tomllib.loads("\n".join(block)) == {
        "tool": {"backset": {"leave": ["a", "b", "c"], "fill": {"t.x": "'it''s \"1\"'"}}}
    }


def test_what_only_the_user_knows_is_a_comment() -> None:
    """So the rest of it can be pasted; and what else may be meant is said before it."""
    block = toml.block(
        [
            Setting(table=FILL, key='"t.x"', value=toml.string(toml.BLANK)),
            Setting(table=BACKSET, key="leave", value=('"a"',), advice="if it was renamed: …"),
        ]
    )
    assert block[1] == '# "t.x" = "…"'
    assert block[-2:] == ["# if it was renamed: …", 'leave = ["a"]']
    assert tomllib.loads("\n".join(block))["tool"]["backset"]["leave"] == ["a"]
    assert toml.block([]) == []
