"""Code that runs inside a sandbox: it uses the standard library, Node's built-in modules, and only
packages that a sandbox has, such as IPython and ipykernel."""
