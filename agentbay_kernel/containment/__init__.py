"""What remote output may do in a notebook page.

In: Jupyter messages of a sandbox. Out: messages that a page can render without harm to it, to the
Jupyter server or to anything that the browser reaches. A page trusts what an executed cell shows,
so whatever is not known to be inert is changed, put into a sandboxed frame, or left out.

A message's way: `messages.Containment` -> `bundle` (MIME types) -> `markup` and `markdown`
(inline or not), `frame` (what is not), `chart_frames` (of `vega` and `plotly`), `charts` (SVG),
`text`; `widgets` for comms.
"""
