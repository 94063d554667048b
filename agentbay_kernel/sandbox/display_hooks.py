"""Prepares a sandbox's IPython so that charts contain their scripts.

A library's scripts are in the sandbox, and neither the page nor the frame around an output loads
anything. So each library is set, by its own settings if it has them, to make self-contained output,
with a static picture beside it if possible. The user's later settings win.

It runs in the kernel's process, in a separate namespace, before the first cell; it imports no
library. A library is set up right after its import. Nothing here may make an import, a display or
a cell fail: if it fails, the library stays as it is.

Runs inside a sandbox, with Python 3.9 or newer and IPython 7 or newer.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import importlib.util
import io
import json
import mimetypes
import os
import re
import subprocess
import sys
import threading
from importlib.machinery import ModuleSpec
from typing import Any, Callable

PLAIN, HTML, PNG = "text/plain", "text/html", "image/png"
# Files that a page would load from a server are embedded in the output up to this size.
MOST_EMBEDDED = 10 * 1024 * 1024
# Displays of these libraries that only load scripts into the page: they show nothing.
LOADING = frozenset(
    f"application/vnd.{name}.v0+json" for name in ("bokehjs_load", "holoviews_load")
)
MARK = "_agentbay_display"
library: Any = importlib.import_module


# --- Altair


def prepare_altair(altair: Any) -> None:
    """Make charts HTML with its scripts, and a picture; without vl_convert they are data."""
    if altair.renderers.active != "default":
        return
    altair.renderers.register("agentbay", functools.partial(altair_bundle, altair))
    altair.renderers.enable("agentbay")


def altair_bundle(altair: Any, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """Return a chart's MIME bundle, as Altair's renderers do."""
    bundle: dict[str, Any] = {PLAIN: "alt.Chart(...)"}
    version = ".".join(altair.VEGALITE_VERSION.split(".")[:2])
    try:
        scripts = vega("javascript_bundle", vl_version=version)
    except (ImportError, OSError, ValueError):
        # The notebook's side may have the scripts.
        return {**bundle, f"application/vnd.vegalite.v{version.split('.')[0]}+json": spec}
    options = {"mode": "vega-lite", **metadata.get("embed_options", {})}
    # It fails for a chart that loads data, in a sandbox without network.
    with contextlib.suppress(OSError, ValueError):
        bundle[PNG] = vega("vegalite_to_png", vl_spec=spec, vl_version=version)
    height = 0
    if PNG in bundle:
        # The frame around the chart takes this height; it leaves room below for a menu.
        height = int.from_bytes(base64.b64decode(bundle[PNG][:32])[20:24], "big")
    drawn = ", ".join(json.dumps(part).replace("<", "\\u003c") for part in (spec, options))
    bundle[HTML] = (
        f'<!doctype html><div id="chart" style="min-height:{height}px"></div>'
        f"<script>{scripts}</script>"
        f"<script>vegaEmbed('#chart', {drawn}).catch(console.error)</script>"
    )
    return bundle


VEGA_WORKER = """\
import base64, json, sys
try:
    import resource
    # V8 reserves more addresses than it ever uses.
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
except (ImportError, ValueError, OSError):
    pass
import vl_convert
for line in sys.stdin:
    name, options = json.loads(line)
    try:
        value = getattr(vl_convert, name)(**options)
        response = {"value": value if isinstance(value, str) else base64.b64encode(value).decode()}
    except Exception as error:
        response = {"error": str(error)[:1000]}
    print(json.dumps(response), flush=True)
"""
VEGA_S = 30
vega_process: Any = None


def vega(name: str, **options: Any) -> str:
    """Call vl_convert in a separate process: its V8 ends the process if it fails.

    Raises:
        ImportError: there is no vl_convert.
        OSError: the process ended, or took longer than `VEGA_S`.
        ValueError: vl_convert failed.
    """
    global vega_process
    if importlib.util.find_spec("vl_convert") is None:
        raise ImportError("no vl_convert")
    if vega_process is None or vega_process.poll() is not None:
        vega_process = subprocess.Popen(
            [sys.executable, "-c", VEGA_WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # Interrupts are for the cell. The process ends when its input ends.
            start_new_session=True,
        )
    process = vega_process
    # A timer, because this thread waits for the process.
    limit = threading.Timer(VEGA_S, process.kill)
    limit.daemon = True
    limit.start()
    line = ""
    try:
        process.stdin.write(json.dumps([name, options]) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
    finally:
        limit.cancel()
        limit.join()
        if not line:
            # Also after an interrupt: a late response would be taken for that of the next call.
            process.kill()
            vega_process = None
    response = json.loads(line or '{"error": "the process ended"}')
    if "error" in response:
        raise (ValueError if line else OSError)(response["error"])
    return str(response["value"])


# --- Bokeh


def prepare_bokeh(bokeh_io: Any) -> None:
    """Make `show` show a plot in the notebook, with or without `output_notebook`."""
    bokeh_io.install_notebook_hook(
        "jupyter", load_bokeh, show_bokeh, show_bokeh_app, overwrite=True
    )
    bokeh_io.state.curstate().output_notebook("jupyter")


def load_bokeh(*_: Any, **__: Any) -> None:
    """Do nothing for `output_notebook()`: each plot contains its scripts."""


def show_bokeh(plot: Any, state: Any, notebook_handle: Any = None) -> None:
    """Show a plot: `show(plot)`."""
    library("IPython.display").publish_display_data({HTML: bokeh_html(plot), PLAIN: repr(plot)})
    if notebook_handle:
        print("push_notebook() has no effect here: show() the plot again to see what changed.")


def show_bokeh_app(app: Any, state: Any, notebook_url: Any = None, **_: Any) -> None:
    """Refuse `show(app)`."""
    print(
        "Bokeh applications are not shown: the page can't reach a server in the sandbox. "
        "Show the plot itself, without callbacks in Python."
    )


def bokeh_html(plot: Any) -> str:
    """Return a document with the plot and its scripts."""
    resources = library("bokeh.resources").INLINE
    html = str(library("bokeh.embed").file_html(plot, resources, title="Bokeh"))
    # Panel adds the address of a script on the Jupyter server, for components in other languages.
    return re.sub(r'<script\b[^>]* src="static/[^>]*></script>', "", html)


# --- plotly


def prepare_plotly(plotly_io: Any) -> None:
    """Show figures both as data and as HTML with its scripts."""
    if os.environ.get("PLOTLY_RENDERER"):
        return

    class Renderer(plotly_io.base_renderers.HtmlRenderer):  # type: ignore[misc]
        """Renders a figure as its data and as a document that draws it."""

        def to_mimebundle(self, fig_dict: dict[str, Any]) -> dict[str, Any]:
            data: dict[str, Any] = plotly_io.renderers["plotly_mimetype"].to_mimebundle(fig_dict)
            html = plotly_io.to_html(
                fig_dict,
                config=self.config,
                auto_play=self.auto_play,
                post_script=self.post_script,
                animation_opts=self.animation_opts,
                include_plotlyjs=True,
                include_mathjax=False,
                default_width="100%",
                default_height=525,
                validate=False,
            )
            return {**data, HTML: html, PLAIN: f"Figure with {len(fig_dict['data'])} traces"}

    plotly_io.renderers["agentbay"] = Renderer()
    plotly_io.renderers.default = "agentbay"


def figure_widget_bundle(widget: Any) -> Any:
    """Return the bundle of plotly's widget, with its figure for pages without such widgets."""
    bundle = widget._repr_mimebundle_()
    renderers = library("plotly.io").renderers
    if "agentbay" in renderers:
        bundle.update(renderers["agentbay"].to_mimebundle(widget.to_dict()))
    return bundle


def chart_widget_bundle(widget: Any) -> Any:
    """Return the same for Altair's `JupyterChart`."""
    bundle = dict(widget._repr_mimebundle_())
    chart = widget.chart._repr_mimebundle_()
    for part in chart[:1] if isinstance(chart, tuple) else (chart,):
        bundle.update(part)
    return bundle


# --- HoloViews, hvPlot, Panel


def prepare_holoviews(holoviews: Any) -> None:
    """Make `hv.extension` show no logo, which would need a frame."""
    holoviews.extension.logo = False


def prepare_panel(panel: Any) -> None:
    """Make `pn.extension` ask the page for nothing: nothing would answer."""
    panel.config.browser_info = False


def holoviews_bundle(element: Any) -> Any:
    """Return the bundle of an element that HoloViews draws with Bokeh: a document."""
    holoviews = sys.modules["holoviews"]
    # Other backends keep their own display, and so does what Bokeh can't draw.
    if holoviews.Store.current_backend != "bokeh" or not holoviews.extension._loaded:
        return element._repr_mimebundle_()
    if element.traverse(lambda one: one, [holoviews.HoloMap, holoviews.DynamicMap]):
        html = panel_html(library("panel.pane").HoloViews(element))
    else:
        html = bokeh_html(holoviews.render(element, backend="bokeh"))
    return {HTML: html, PLAIN: repr(element)}


def panel_bundle(viewable: Any) -> Any:
    """Return the bundle of Panel's output with its states embedded: sliders need no Python."""
    return {HTML: panel_html(viewable), PLAIN: repr(viewable)}


def layout_bundle(interactive: Any) -> Any:
    """Return the same for an object that makes its Panel layout when it is shown."""
    return panel_bundle(interactive.layout())


def viewer_bundle(viewer: Any) -> Any:
    """Return the same for classes with a method `__panel__`."""
    return panel_bundle(viewer._create_view())


def panel_html(viewable: Any) -> str:
    """Return a document with the viewable and its scripts."""
    document, resources = io.StringIO(), library("bokeh.resources").INLINE
    viewable.save(document, resources=resources, embed=True, progress=False)
    dist = os.path.join(os.path.dirname(library("panel").__file__), "dist")

    def style(address: re.Match[str]) -> str:
        path = os.path.join(dist, *address[1].split("/"))
        if not os.path.isfile(path):
            return address[0]
        with open(path, "rb") as file:
            return "data:text/css;base64," + base64.b64encode(file.read()).decode("ascii")

    html = PANEL_STYLE.sub(style, document.getvalue())
    # Icons of a browser's tab, which this document does not have.
    return re.sub(r'<link rel="(?:apple-touch-)?icon"[^>]*>', "", html)


PANEL_STYLE = re.compile(
    r"https://cdn\.holoviz\.org/panel/[\w.]+/dist/([\w/.@-]+\.css)(?:\?v=[\w.]+)?"
)


# --- itables


def prepare_itables(itables: Any) -> None:
    """Make each table contain DataTables, not the cell of `init_notebook_mode`."""
    module: Any = sys.modules["itables.javascript"]
    to_html = module.to_html_datatable

    @functools.wraps(to_html)
    def with_scripts(*arguments: Any, **options: Any) -> str:
        # The user has chosen a source.
        if "dt_url" in options:
            return str(to_html(*arguments, **options))
        scripts = module.generate_init_offline_itables_html(itables.options.dt_bundle)
        table = to_html(*arguments, **{**options, "connected": False})
        return f"{scripts.partition('</script>')[0]}</script>{table}"

    def init_notebook_mode(all_interactive: bool = True, *_: Any, **__: Any) -> None:
        """Show all tables of pandas and polars as interactive ones."""
        module.set_itables_repr_html_methods(all_interactive)

    module.to_html_datatable = itables.to_html_datatable = with_scripts
    module.init_notebook_mode = itables.init_notebook_mode = init_notebook_mode


# --- Files that are shown by their address


def iframe_html(frame: Any) -> str:
    """Return an `IFrame`'s HTML: the document itself if it is a file of the sandbox, as with
    pyvis."""
    source = str(frame.src)
    page = local_file(source, (".html", ".htm"))
    if page is None or frame.params:
        return str(frame._repr_html_())
    with open(page, encoding="utf-8", errors="replace") as file:
        document = file.read()
    return with_local_scripts(document, os.path.dirname(page))


def video_html(video: Any) -> str:
    """Return a `Video`'s HTML, with its data if it is a file of the sandbox."""
    path = None if video.embed else local_file(str(video.url or video.filename or ""))
    if path is None:
        return str(video._repr_html_())
    with open(path, "rb") as file:
        data = base64.b64encode(file.read()).decode("ascii")
    kind = video.mimetype or mimetypes.guess_type(path)[0] or "video/mp4"
    size = "".join(
        f' {name}="{int(value)}"'
        for name, value in (("width", video.width), ("height", video.height))
        if value
    )
    return f'<video {video.html_attributes}{size} src="data:{kind};base64,{data}"></video>'


def local_file(address: str, endings: tuple[str, ...] = ("",)) -> str | None:
    """Return the path of a file, if it exists and is small enough to be embedded."""
    if "://" in address or not address.lower().endswith(endings):
        return None
    path = os.path.abspath(address)
    fits = os.path.isfile(path) and os.path.getsize(path) <= MOST_EMBEDDED
    return path if fits else None


SCRIPT = re.compile(r"""<script\b[^>]*?\bsrc=["']([^"']+)["'][^>]*>\s*</script>""", re.I)
STYLESHEET = re.compile(r"""<link\b[^>]*?\bhref=\s*["']([^"']+\.css)["'][^>]*>""", re.I)


def with_local_scripts(document: str, folder: str) -> str:
    """Embed the scripts and style sheets of a document that are files of the sandbox."""
    folders = [folder]
    if "pyvis" in sys.modules:
        own = os.path.join(os.path.dirname(sys.modules["pyvis"].__file__ or ""), "templates", "lib")
        folders += [own, *(os.path.join(own, name) for name in sorted(os.listdir(own))[::-1])]

    def found(address: str) -> str | None:
        names = [address] if "://" not in address else [address.rsplit("/", 1)[1]]
        paths = (os.path.join(one, name) for one in folders for name in names)
        path = next((one for one in paths if os.path.isfile(one)), None)
        if path is None:
            return None
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def script(tag: re.Match[str]) -> str:
        text = found(tag[1])
        if text is None:
            return drop_or_keep(tag)
        return "<script>" + text.replace("</script", "<\\/script") + "</script>"

    def style(tag: re.Match[str]) -> str:
        text = found(tag[1])
        return drop_or_keep(tag) if text is None else f"<style>{text}</style>"

    def drop_or_keep(tag: re.Match[str]) -> str:
        # Other scripts and styles of pyvis' page only frame the network.
        return "" if is_pyvis else tag[0]

    is_pyvis = "vis-network" in document and len(folders) > 1
    if is_pyvis:
        document = re.sub(r"<!--.*?-->", "", document, flags=re.S)
    return STYLESHEET.sub(style, SCRIPT.sub(script, document))


# --- When each is set up


PREPARATIONS: dict[str, Callable[[Any], None]] = {
    "altair": prepare_altair,
    "bokeh.io": prepare_bokeh,
    "plotly.io": prepare_plotly,
    "holoviews": prepare_holoviews,
    "panel": prepare_panel,
    "itables": prepare_itables,
}
# Displays by type: the formatter's MIME type ("" for whole bundles), then where the type is.
DISPLAYS: tuple[tuple[str, str, str, Callable[[Any], Any]], ...] = (
    ("", "plotly.graph_objs._figurewidget", "FigureWidget", figure_widget_bundle),
    ("", "altair.jupyter.jupyter_chart", "JupyterChart", chart_widget_bundle),
    ("", "holoviews.core.dimension", "Dimensioned", holoviews_bundle),
    ("", "panel.viewable", "Viewable", panel_bundle),
    ("", "panel.viewable", "Viewer", viewer_bundle),
    ("", "hvplot.interactive", "Interactive", layout_bundle),
    (HTML, "IPython.lib.display", "IFrame", iframe_html),
    (HTML, "IPython.core.display", "Video", video_html),
)
pending = dict(PREPARATIONS)


def prepare(name: str) -> None:
    """Set up an imported library, once."""
    module, preparation = sys.modules.get(name), pending.get(name)
    if module is None or preparation is None:
        return
    del pending[name]
    with contextlib.suppress(Exception):
        preparation(module)


class WatchedSpec(ModuleSpec):
    """The spec of a module that is being imported; it notices the end of the import.

    The import system sets `_initializing`. So tracebacks have no frame of ours, and the module
    keeps its own loader. If it does not set it, `before_cell` sets up the library.
    """

    @property
    def _initializing(self) -> bool:
        return bool(self.__dict__.get("_initializing", False))

    @_initializing.setter
    def _initializing(self, value: bool) -> None:
        self.__dict__["_initializing"] = value
        if not value and self.__dict__.get("_agentbay_begun"):
            # From now on it is an ordinary spec.
            del self.__dict__["_agentbay_begun"]
            self.__class__ = ModuleSpec  # type: ignore[assignment]
            prepare(self.name)
        elif value:
            self.__dict__["_agentbay_begun"] = True


class ImportWatcher:
    """A finder that watches the imports of libraries to set up; other finders find them."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return the other finders' spec for one of the libraries, as a `WatchedSpec`."""
        if name not in pending:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if type(spec) is ModuleSpec:
                    spec.__class__ = WatchedSpec
                return spec
        return None


def before_cell(*_: Any) -> None:
    """Set up libraries whose import was not noticed."""
    for name in [name for name in pending if name in sys.modules]:
        prepare(name)


def without_loading(message: Any) -> Any:
    """Return a message, None if it only loads scripts into the page."""
    data = message["content"].get("data") or {}
    # Panel's options for loading modules.
    loads = len(data) == 1 and str(data.get(HTML)).startswith('<script type="esms-options">')
    return None if loads or LOADING & data.keys() else message


def with_fallback(display: Callable[[Any], Any], method: str) -> Callable[[Any], Any]:
    """Return a display that uses the object's own method if it fails."""

    @functools.wraps(display)
    def shown(thing: Any) -> Any:
        try:
            return display(thing)
        except Exception:
            return getattr(thing, method)()

    return shown


def install() -> None:
    """Prepare this process's IPython, once."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None or getattr(shell, MARK, False):
        return
    setattr(shell, MARK, True)
    formatters = shell.display_formatter
    for mime, module, name, display in DISPLAYS:
        formatter = formatters.formatters[mime] if mime else formatters.mimebundle_formatter
        method = "_repr_html_" if mime else "_repr_mimebundle_"
        formatter.for_type_by_name(module, name, with_fallback(display, method))
    shell.events.register("pre_run_cell", before_cell)
    if hasattr(shell.display_pub, "register_hook"):
        shell.display_pub.register_hook(without_loading)
    sys.meta_path.insert(0, ImportWatcher())


install()
