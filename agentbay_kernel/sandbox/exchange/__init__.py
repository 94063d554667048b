"""How values are transferred: one source on both sides, here and in a sandbox (Python 3.9)."""
