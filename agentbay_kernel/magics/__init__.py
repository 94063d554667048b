"""`%agentbay` and `%%agentbay` in an IPython shell. Start reading in `magics.py`.

magics      the magics themselves: loading, unloading, dispatch
cell        one `%%agentbay` cell, from its line of options to its result
background  cells that run while the notebook continues
"""
