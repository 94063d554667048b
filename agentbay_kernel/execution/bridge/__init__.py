"""A kernel in the sandbox, reached only by `run_code`.

A cell passes `execution` → `client` → `requests` → `transport` → the service. Its messages come
back through `decoder` to the iterator that the caller reads.

    execution           runs a cell of any language, to its reply
    python, javascript  the parts that are different for each language
    client              the connection to one bridge: two byte streams with offsets
    requests            cells, completions and widgets that wait for messages
    transport           makes the calls: their sizes, their waits, and when to give up
    decoder             turns bytes into checked messages; which sandbox owns which id
    schemas             the messages that a sandbox may send
    wakeup              sends data to a call that waits for output, or ends it
    installer           the code that installs, queries and ends a bridge
"""
