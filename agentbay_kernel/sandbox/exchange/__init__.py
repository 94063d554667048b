"""How values travel: the same source on both sides, here and inside a sandbox (Python 3.9)."""
