"""One server with its databases as wholes: PostgreSQL's programs, the embedded one, the swap."""
