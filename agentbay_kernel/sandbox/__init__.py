"""Source that runs inside a sandbox: the standard library and Node's built-in modules only."""
