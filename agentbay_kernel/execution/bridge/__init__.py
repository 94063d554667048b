"""A kernel in the sandbox, reached by `run_code` alone.

A cell's way: `execution` → `client` → `requests` → `transport` → the service; back
through `decoder` to the iterator that the caller reads.

    execution           a cell of any language, to its reply
    python, javascript  what is each language's own
    client              the connection to one bridge: two byte streams with offsets
    requests            what waits for messages: cells, completions, widgets
    transport           one call, in pieces where it is large, repeated where that is safe
    decoder             bytes into checked messages, and which sandbox owns which id
    schemas             which messages a sandbox may send
    wakeup              ends a call that waits for output
    installer           the code that installs, asks and ends a bridge
"""
