"""Code that runs inside a sandbox: it uses the standard library, Node's built-in modules, and only
packages that a sandbox has, such as IPython and ipykernel.

bridge            the other end of bridged execution; `outbox` keeps messages until they arrived
jupyter_kernel    the bridge's Python kernel, with `prepared_kernel`, `display_hooks`,
                  `full_output`, `completion_cache`, `usage`, `variables`
node_kernel       the bridge's JavaScript kernel, with `node_process`, `node_worker.js`
python_engine     the Python of a local session, for direct cells; `interrupts` is for both
executor          runs the functions of a pool
exchange/         values to bytes, and back
"""
