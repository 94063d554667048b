"""Two ways to run one cell in a session; both yield Jupyter messages, the reply last.

direct         one `run_code` for each cell: what every session can do
bridge/        a Jupyter kernel in the sandbox: live output, input, widgets, interrupts
javascript/    cells rewritten so that a notebook may run them again
interrupts     which cell Stop means
cell, messages, result, output_limit, display, sources: what both share
"""
