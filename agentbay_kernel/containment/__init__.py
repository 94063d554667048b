"""Limits on what remote output may do in a notebook page.

Jupyter messages of a sandbox come in. Messages come out that can't harm the page, the Jupyter
server or anything that the browser reaches. A page trusts the output of an executed cell, so
anything that is not known to be inert is changed, put into a sandboxed frame, or left out.

The path of a message: `messages.Containment` -> `bundle` (MIME types) -> `markup` and `markdown`
(inline or not), `frame` (if not inline), `chart_frames` (with `vega` and `plotly`), `svg`,
`text`; `widgets` for comms.
"""
