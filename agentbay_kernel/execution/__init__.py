"""Two ways to run one cell in a session; both yield Jupyter messages, the reply last.

direct         one `run_code` for each cell: works with every session
bridge/        a Jupyter kernel in the sandbox: live output, input, widgets, interrupts
javascript/    rewrites cells so that a notebook can run them again
cell, messages, result, output_limit, display, sources: shared by both
"""
