"""Cells of ordinary notebooks, whose outputs must look as they do anywhere.

In: nothing. Out: for each a cell of Python, where it is shown (in the page or in a frame), and what
a person sees there.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Literal

import altair as alt

_SHIPS = (
    'import pandas as pd\nships = pd.DataFrame({"ship": ["Aurora", "Borealis", "Corvus"],'
    ' "containers": [420, 310, 515]})\n'
)


@dataclass(frozen=True)
class Benign:
    """A cell and what is seen: an element by its CSS selector, a text in it, its height."""

    name: str
    code: str
    selector: str
    text: str = ""
    place: Literal["page", "frame"] = "page"
    lowest_px: int = 10


BENIGN = (
    Benign("pandas", f"{_SHIPS}ships", "table.dataframe", "Borealis", lowest_px=80),
    Benign(
        "styler",
        "ships.style.background_gradient(subset=['containers']).bar(subset=['containers'], "
        "color='#5fba7d').set_caption('Containers by ship')",
        "table caption",
        "Containers by ship",
    ),
    Benign(
        "styler-with-sticky-headers",
        "ships.style.set_sticky().set_caption('Sticky')",
        "table caption",
        "Sticky",
        "frame",
    ),
    Benign(
        "plotly",
        "import plotly.express as px\nfrom IPython.display import HTML\n"
        "plot = px.bar(ships, x='ship', y='containers', title='Containers')\n"
        "HTML(plot.to_html(include_plotlyjs=True))",
        ".main-svg .bars path",
        place="frame",
        lowest_px=50,
    ),
    Benign(
        "plotly-by-its-type",
        "import plotly.io as pio\npio.renderers.default = 'plotly_mimetype'\nplot",
        ".js-plotly-plot .bars path",
        place="frame",
        lowest_px=50,
    ),
    Benign(
        "bokeh",
        "from bokeh.embed import file_html\nfrom bokeh.plotting import figure\n"
        "from bokeh.resources import INLINE\n"
        "curve = figure(width=500, height=250, title='Curve')\n"
        "curve.line([1, 2, 3], [3, 1, 2], line_width=3)\nHTML(file_html(curve, INLINE))",
        ".bk-Figure",
        place="frame",
        lowest_px=200,
    ),
    Benign(
        "altair",
        "import altair as alt\n"
        "chart = alt.Chart(ships).mark_bar().encode(x='ship', y='containers', color='ship')\n"
        "import base64, zlib\nHTML(zlib.decompress(base64.b64decode(ALTAIR_INLINE)).decode())",
        ".vega-embed canvas, .vega-embed svg.marks",
        place="frame",
        lowest_px=200,
    ),
    Benign(
        "vega-lite",
        "display({'application/vnd.vegalite.v5+json': {'data': {'values': [{'ship': 'Aurora', "
        "'n': 420}, {'ship': 'Corvus', 'n': 515}]}, 'mark': 'bar', 'height': 150, 'encoding': {"
        "'x': {'field': 'n', 'type': 'quantitative'}, 'y': {'field': 'ship', 'type': 'nominal'}}},"
        " 'text/plain': 'chart'}, raw=True)",
        ".vega-embed canvas",
        lowest_px=150,
    ),
    Benign(
        "animation",
        "import matplotlib.pyplot as plt\nfrom matplotlib.animation import FuncAnimation\n"
        "figure, axes = plt.subplots(figsize=(4, 2.5))\n"
        "line, = axes.plot([0, 1, 2], [0, 1, 0])\n"
        "moving = FuncAnimation(figure, lambda n: line.set_ydata([0, n / 4, 0]), frames=4)\n"
        "plt.close(figure)\nHTML(moving.to_jshtml())",
        ".animation img",
        place="frame",
        lowest_px=150,
    ),
    Benign(
        "figure",
        "plt.figure(figsize=(4, 2))\nplt.plot([1, 3, 2])\nplt.show()",
        "img",
        lowest_px=100,
    ),
    Benign(
        "svg",
        'from IPython.display import SVG, display\nSVG(\'<svg xmlns="http://www.w3.org/2000/svg" '
        'width="120" height="60"><rect width="120" height="60" rx="8" fill="#2f7fc1"/>'
        '<text x="20" y="36" fill="white">inert</text></svg>\')',
        "img",
        lowest_px=60,
    ),
    Benign(
        "html-table",
        "HTML('<table><tr><th>berth</th><th>depth</th></tr><tr><td>Nordkai</td>"
        '<td style="text-align:right;color:#c00">12.5 m</td></tr></table>\')',
        "table td",
        "Nordkai",
    ),
    Benign(
        "math",
        "from IPython.display import Math\nMath(r'\\int_0^1 x^2\\,dx = \\frac{1}{3}')",
        "mjx-container",
    ),
    Benign(
        "markdown",
        "from IPython.display import Markdown\nMarkdown('## Berths\\n\\n* **Nordkai**: 12 m\\n"
        "* a [link](https://example.org) and `code`\\n\\n| a | b |\\n|---|---|\\n| 1 | $x^2$ |')",
        "h2",
        "Berths",
    ),
    Benign(
        "markdown-with-html",
        "Markdown('## Depths\\n\\n<details><summary>more</summary>Südkai</details>\\n\\n$a_1 + b_1$')",
        "summary",
        "more",
    ),
    Benign(
        "markdown-with-html-code",
        "Markdown('### A page\\n\\n```html\\n<b onclick=x>bold</b>\\n```')",
        "pre code",
        "<b onclick=x>bold</b>",
    ),
    Benign(
        "audio",
        "import numpy as np\nfrom IPython.display import Audio\n"
        "Audio(np.sin(np.arange(8000) / 9), rate=8000)",
        "audio",
    ),
    Benign(
        "video",
        "from IPython.display import Video\nVideo(b'\\0\\0\\0\\x18ftypmp42', embed=True, "
        "mimetype='video/mp4', width=240, height=120)",
        "video",
        lowest_px=100,
    ),
    Benign(
        "json",
        "from IPython.display import JSON\nJSON({'ships': [{'name': 'Aurora'}]}, expanded=True)",
        ".jp-RenderedJSON",
        "Aurora",
    ),
    Benign(
        "widgets",
        "import ipywidgets as w\nw.VBox([w.HTML('<b>Load</b> of the ship'), "
        "w.IntSlider(description='containers', value=42)])",
        ".widget-html-content b",
        "Load",
    ),
    Benign(
        "progress",
        "from IPython.display import ProgressBar\nbar = ProgressBar(10)\nbar.progress = 4\n"
        "display(bar)",
        "progress",
    ),
    Benign(
        "xarray-like",
        "HTML('<style>.box{border:2px solid #2f7fc1;padding:6px;border-radius:6px}</style>"
        '<div class="box">styled by its own sheet</div>\')',
        ".box",
        "styled by its own sheet",
        "frame",
    ),
    Benign(
        "svg-in-html",
        'HTML(\'<p>A drawing:</p><svg width="100" height="50"><circle cx="50" cy="25" '
        'r="20" fill="#f0c419"/></svg>\')',
        "svg circle",
        "",
        "frame",
        30,
    ),
    Benign("coloured-text", "print('\\x1b[31mred\\x1b[0m and \\x1b[1mbold\\x1b[0m')", "pre", "red"),
)


def altair_inline() -> str:
    """A chart with its scripts inline, packed, as a Python literal.

    Altair makes it with V8, which wants more memory than the local runtime gives a sandbox.
    """
    ships = alt.Data(values=[{"ship": "Aurora", "n": 420}, {"ship": "Borealis", "n": 310}])
    chart = alt.Chart(ships).mark_bar().encode(x="ship:N", y="n:Q", color="ship:N")
    html = chart.properties(width=400, height=220).to_html(inline=True)
    return repr(base64.b64encode(zlib.compress(html.encode())).decode())


FOLIUM = "import folium\nfolium.Map(location=[53.5, 9.9], zoom_start=10)"
ALTAIR_ONLINE = "from IPython.display import HTML\nHTML(chart.to_html())"
