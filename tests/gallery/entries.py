"""What the gallery shows: a cell for each library, as its users write it, nothing made easy.

In: nothing. Out: the cells of one notebook, what each must be in a page, and whether the small
part of the gallery that runs with all tests has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Drawn by scripts in a frame or by widgets; inert; only a text that says what to do.
Shown = Literal["live", "static", "notice"]

SETUP = """\
import numpy as np
import pandas as pd

ships = pd.DataFrame({"ship": ["Aurora", "Borealis", "Corvus", "Dorado"],
                      "containers": [420, 310, 515, 260], "depth": [12.5, 9.0, 14.2, 8.1]})
wave = pd.DataFrame({"x": np.linspace(0, 12, 60)})
wave["y"] = np.sin(wave.x) * wave.x"""


@dataclass(frozen=True)
class Entry:
    """A library, the cell that shows something with it, and what is shown.

    Arguments:
        untrusted: what a page shows that does not trust the notebook.
        kernel: does it need one, as widgets do? Without it a page shows a text.
    """

    name: str
    code: str
    shown: Shown
    untrusted: Shown = "static"
    small: bool = False
    kernel: bool = False

    @property
    def reopened(self) -> Shown:
        """What a page shows of the stored notebook, before a cell has run."""
        return "notice" if self.kernel else self.shown

    @property
    def converted(self) -> Shown:
        """What a page of nbconvert shows."""
        return "static" if self.kernel else self.shown


GALLERY = (
    Entry(
        "matplotlib",
        "import matplotlib.pyplot as plt\n\nplt.figure(figsize=(5, 2.2))\n"
        'plt.bar(ships.ship, ships.containers, color="#2f7fc1")\nplt.show()',
        "static",
        small=True,
    ),
    Entry(
        "matplotlib animation (to_jshtml)",
        "from matplotlib.animation import FuncAnimation\nfrom IPython.display import HTML\n\n"
        "figure, axes = plt.subplots(figsize=(4, 2.2))\n"
        "(line,) = axes.plot(wave.x, wave.y)\n"
        "moving = FuncAnimation(figure, lambda n: line.set_ydata(wave.y * n / 5), frames=6)\n"
        "plt.close(figure)\nHTML(moving.to_jshtml())",
        "live",
        "notice",
    ),
    Entry(
        "seaborn",
        "import seaborn as sns\n\nplt.figure(figsize=(5, 2.2))\n"
        'sns.barplot(ships, x="ship", y="depth", hue="ship")\nplt.show()',
        "static",
    ),
    Entry(
        "plotnine",
        "from plotnine import aes, geom_line, ggplot, theme\n\n"
        'ggplot(wave, aes("x", "y")) + geom_line(color="#c0392b") + theme(figure_size=(5, 2.2))',
        "static",
    ),
    Entry(
        "Altair",
        "import altair as alt\n\n"
        'alt.Chart(ships).mark_bar().encode(x="containers", y="ship", color="ship", '
        'tooltip="depth").interactive()',
        "live",
        small=True,
    ),
    Entry(
        "plotly",
        "import plotly.express as px\n\n"
        'px.scatter(ships, x="depth", y="containers", size="containers", color="ship", height=300)',
        "live",
        "notice",
        small=True,
    ),
    Entry(
        "plotly (fig.show())",
        'px.line(wave, x="x", y="y", height=260).show()',
        "live",
        "notice",
    ),
    Entry(
        "plotly FigureWidget",
        "import plotly.graph_objects as go\n\n"
        "go.FigureWidget(data=go.Bar(x=ships.ship, y=ships.containers), layout={'height': 260})",
        "live",
        "notice",
    ),
    Entry(
        "Bokeh",
        "from bokeh.io import output_notebook\nfrom bokeh.plotting import figure, show\n\n"
        "output_notebook()\n"
        'plot = figure(width=500, height=220, title="Wave")\n'
        "plot.line(wave.x, wave.y, line_width=3)\nshow(plot)",
        "live",
        "notice",
        small=True,
    ),
    Entry(
        "hvPlot",
        'import hvplot.pandas\n\nships.hvplot.bar(x="ship", y="containers", height=240, width=500)',
        "live",
        "notice",
    ),
    Entry(
        "HoloViews",
        'import holoviews as hv\n\nhv.extension("bokeh")\n'
        "hv.Curve(wave, 'x', 'y').opts(width=500, height=240) * hv.Scatter(wave, 'x', 'y')",
        "live",
        "notice",
    ),
    Entry(
        "HoloViews with a slider",
        "hv.HoloMap({n: hv.Curve(wave.y * n).opts(width=400, height=220) for n in (1, 2, 3)}, "
        "kdims='n')",
        "live",
        "notice",
    ),
    Entry(
        "Panel",
        "import panel as pn\n\n"
        "pn.Row(pn.widgets.IntSlider(value=3, end=9), pn.pane.Markdown('# Ships'))",
        "live",
        "notice",
    ),
    Entry(
        "pandas Styler",
        'ships.style.background_gradient(subset=["containers"]).bar(subset=["depth"], '
        'color="#5fba7d")',
        "static",
        small=True,
    ),
    Entry(
        "great_tables",
        "from great_tables import GT\n\n"
        'GT(ships).tab_header("Ships", "by containers").data_color("containers", '
        'palette=["white", "steelblue"])',
        "static",
        "notice",
    ),
    Entry(
        "itables", "from itables import show as show_table\n\nshow_table(ships)", "live", "notice"
    ),
    Entry(
        "itables (init_notebook_mode)",
        "from itables import init_notebook_mode\n\ninit_notebook_mode(all_interactive=True)\n"
        "display(ships)\ninit_notebook_mode(all_interactive=False)",
        "live",
        "notice",
    ),
    Entry("polars", "import polars as pl\n\npl.from_pandas(ships)", "static", "notice"),
    Entry(
        "rich",
        "from rich.table import Table\nfrom rich import print as rich_print\n\n"
        'table = Table("ship", "containers", title="Ships")\n'
        'table.add_row("[red]Aurora", "420")\ntable.add_row("[green]Borealis", "310")\n'
        "rich_print(table)",
        "static",
        "notice",
    ),
    Entry(
        "sympy",
        "import sympy\n\nx = sympy.symbols('x')\n"
        "sympy.Integral(sympy.exp(-x**2), (x, -sympy.oo, sympy.oo))",
        "static",
    ),
    Entry(
        "graphviz",
        "import graphviz\n\ngraph = graphviz.Digraph(graph_attr={'rankdir': 'LR'})\n"
        "graph.edges([('a', 'b'), ('b', 'c'), ('a', 'c')])\ngraph",
        "static",
    ),
    Entry(
        "pyvis",
        "from pyvis.network import Network\n\n"
        'network = Network(notebook=True, height="260px")\n'
        "network.add_nodes([1, 2, 3], label=['Aurora', 'Borealis', 'Corvus'])\n"
        'network.add_edges([(1, 2), (2, 3)])\nnetwork.show("network.html")',
        "live",
        "notice",
    ),
    Entry(
        "folium",
        "import folium\n\nfolium.Map(location=[53.54, 9.97], zoom_start=12, height=240)",
        "notice",
        "notice",
    ),
    Entry(
        "networkx",
        "import networkx as nx\n\nplt.figure(figsize=(4, 2.4))\n"
        "nx.draw(nx.petersen_graph(), node_color='#f0c419')\nplt.show()",
        "static",
    ),
    Entry(
        "PIL",
        "from PIL import Image as PilImage\n\n"
        "PilImage.fromarray((np.indices((90, 240)).sum(0) % 256).astype('uint8')).convert('RGB')",
        "static",
    ),
    Entry(
        "wordcloud",
        "from wordcloud import WordCloud\n\n"
        "WordCloud(width=400, height=160).generate_from_frequencies("
        "dict(zip(ships.ship, ships.depth))).to_image()",
        "static",
    ),
    Entry(
        "scikit-learn",
        "from sklearn.linear_model import LogisticRegression\n"
        "from sklearn.pipeline import make_pipeline\n"
        "from sklearn.preprocessing import StandardScaler\n\n"
        "make_pipeline(StandardScaler(), LogisticRegression())",
        "live",
        "notice",
    ),
    Entry("tqdm", "from tqdm import tqdm\n\nfor _ in tqdm(range(20)):\n    pass", "static"),
    Entry(
        "tqdm.notebook",
        "from tqdm.notebook import tqdm as bar\n\nfor _ in bar(range(20)):\n    pass",
        "live",
        kernel=True,
    ),
    Entry(
        "ipywidgets",
        "import ipywidgets\n\n"
        "ipywidgets.HBox([ipywidgets.IntSlider(value=3, description='depth'), "
        "ipywidgets.Button(description='Go', button_style='info')])",
        "live",
        kernel=True,
    ),
    Entry(
        "Audio",
        "from IPython.display import Audio\n\n"
        "Audio(np.sin(2 * np.pi * 440 * np.arange(8000) / 8000), rate=8000)",
        "live",
        "live",
    ),
    Entry(
        "Video",
        "from IPython.display import Video\nimport imageio.v3 as imageio\n\n"
        "frames = np.zeros((25, 128, 192, 3), 'uint8')\n"
        "frames[:, 30:90, 40:140] = (47, 127, 193)\nframes[:, 50:70, 60:120] = (240, 196, 25)\n"
        'imageio.imwrite("film.mp4", frames, fps=25)\nVideo("film.mp4", width=240)',
        "live",
        "live",
    ),
    Entry(
        "Image",
        "from IPython.display import Image\n\nplt.figure(figsize=(3, 1.6))\nplt.plot(wave.y)\n"
        'plt.savefig("wave.png")\nplt.close()\nImage("wave.png")',
        "static",
    ),
    Entry(
        "IFrame",
        "from IPython.display import IFrame\nfrom pathlib import Path\n\n"
        'Path("page.html").write_text("<h1 style=\'background:#f0c419\'>A page of the sandbox</h1>"'
        ')\nIFrame("page.html", 400, 120)',
        "static",
    ),
    Entry(
        "SVG",
        "from IPython.display import SVG\n\n"
        'SVG(\'<svg xmlns="http://www.w3.org/2000/svg" width="200" height="60">\'\n'
        '    \'<rect width="200" height="60" rx="8" fill="#2f7fc1"/>\'\n'
        '    \'<circle cx="40" cy="30" r="20" fill="#f0c419"/></svg>\')',
        "static",
        "notice",
        small=True,
    ),
)
