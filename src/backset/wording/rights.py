"""What lets a role do what it may not, in words. Pure."""

GRANTED = "let an administrator GRANT that to your role, then run this again"
UNHIDDEN = (
    "its owner can run ALTER TABLE … NO FORCE ROW LEVEL SECURITY, if that is the role itself; for "
    "another role an administrator can run ALTER ROLE … BYPASSRLS; no GRANT shows hidden rows"
)
