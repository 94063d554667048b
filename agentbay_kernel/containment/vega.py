"""Vega and Vega-Lite: specifications that the page may draw, and documents that draw the others.

A specification is a program: its expressions become JavaScript, its keys become attributes of
inputs, its addresses are loaded with the page's cookies. So a specification reaches the page as
data only if every key and every value is on the list below. All others, and all of full Vega, are
drawn in a frame.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from agentbay_kernel.containment.text import UNSAFE_NAMES, is_plain, one_line

_Check = Callable[[Any], bool]

_mime = re.compile(r"application/vnd\.vega(?P<lite>lite)?\.v(?P<version>\d{1,3})[+.]json\Z", re.A)
# JupyterLab 4.6 draws these, with Vega-Lite 5.6.
_IN_THE_PAGE = frozenset(f"application/vnd.vegalite.v{version}+json" for version in (3, 4, 5))
# vega-embed's "View Source" writes the specification as HTML into a window with the page's rights;
# "Open in Vega Editor" sends it to another site.
_ACTIONS = {"export": True, "source": False, "compiled": False, "editor": False}
# vl-convert bundles the scripts in seconds; a longer time means that it hangs.
_BUNDLING_S = 60


def is_vega(mime: str) -> bool:
    """Return whether it is a MIME type of Vega or Vega-Lite."""
    return _mime.match(mime) is not None


def can_be_data(mime: str, spec: Any) -> bool:
    """Return whether the page can draw this specification, and nothing in it is active there."""
    return mime in _IN_THE_PAGE and _is_chart(spec, 0)


def embed_metadata(metadata: Any) -> dict[str, Any]:
    """Return the metadata for a specification that the page draws: sizes, and a safe menu."""
    options = metadata.get("embed_options") if isinstance(metadata, dict) else None
    options = options if isinstance(options, dict) else {}
    sizes = {
        name: options[name]
        for name in ("height", "width", "padding")
        if name in options and _is_number(options[name])
    }
    return {"embed_options": {**sizes, "actions": _ACTIONS}}


class ScriptsError(Exception):
    """Scripts could not be made; the message has the reason and advice, without a full stop."""


def document(mime: str, data: str, *, python: str = sys.executable) -> str | None:
    """Return HTML that draws a specification, or nothing if vl-convert is missing.

    Arguments:
        data: the specification, as JSON that may stand in a script element.
        python: the interpreter that may have vl-convert.

    Raises:
        ScriptsError: vl-convert is installed, but did not write the scripts.
    """
    found = _mime.match(mime)
    assert found is not None
    mode = "vega-lite" if found["lite"] else "vega"
    is_old = bool(found["lite"]) and int(found["version"]) < 6
    scripts = _scripts("5" if is_old else "", python)
    return scripts and _DOCUMENT.format(scripts=scripts, data=data, mode=mode)


_DOCUMENT = """<div id="chart" style="width:100%"></div><script>{scripts}</script>\
<script id="spec" type="application/json">{data}</script><script>\
vegaEmbed("#chart",JSON.parse(document.getElementById("spec").textContent),\
{{mode:"{mode}",actions:false,renderer:"canvas"}}).catch(error=>{{\
document.getElementById("chart").textContent=String(error)}})</script>"""

# In a separate process: it loads a whole JavaScript engine, whose memory is freed afterwards.
_BUNDLE = """\
import importlib.util, sys
if importlib.util.find_spec("vl_convert") is None:
    sys.exit(%d)
import vl_convert
major = sys.argv[1]
known = [it for it in vl_convert.get_vegalite_versions() if it.split(".")[0] == major]
newest = max(known, key=lambda it: [int(part) for part in it.split(".")], default=None)
sys.stdout.buffer.write(vl_convert.javascript_bundle(vl_version=newest).encode())
"""
_MISSING = 44
_AGAIN = (
    "In a terminal on the machine where this kernel runs, type "
    "`pip install --upgrade vl-convert-python`, then run the cell again"
)


def _scripts(major: str, python: str) -> str | None:
    try:
        return _bundled(major, python)
    except subprocess.TimeoutExpired:
        told = f"its scripts were not ready after {_BUNDLING_S} s, because this machine is busy"
        raise ScriptsError(f"{told}. Run the cell again") from None
    except subprocess.CalledProcessError as failed:
        if failed.returncode == _MISSING:
            return None
        lines = failed.stderr.decode(errors="replace").strip().splitlines()
        why = one_line(lines[-1])[:200] if lines else f"exit code {failed.returncode}"
        raise ScriptsError(f"vl-convert did not write its scripts ({why}). {_AGAIN}") from None
    except OSError as error:
        why = error.strerror or str(error)
        raise ScriptsError(f"Python did not start to write its scripts ({why}). {_AGAIN}") from None


# Failures are not cached: it works as soon as vl-convert is installed.
@cache
def _bundled(major: str, python: str) -> str:
    # -P: no file of that name is imported from the notebook's directory.
    bundled = subprocess.run(
        [python, "-P", "-c", _BUNDLE % _MISSING, major],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_BUNDLING_S,
        check=True,
    )
    return bundled.stdout.decode().replace("</script", "<\\/script")


# --- What a specification may hold -----------------------------------------------------------


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _between(least: float, most: float) -> _Check:
    """Check for a number. A number that a page counts up to, or draws with, must be limited."""
    return lambda value: _is_number(value) and least <= value <= most


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_scalar(value: Any) -> bool:
    """Return whether it is a value of a row, which is drawn and never run."""
    if isinstance(value, str):
        return is_plain(value)
    return value is None or _is_bool(value) or _is_number(value)


def _words(words: str, *others: Any) -> _Check:
    allowed = frozenset(words.split())
    return lambda value: (
        value in allowed if isinstance(value, str) else any(value is other for other in others)
    )


def _text(pattern: str) -> _Check:
    compiled = re.compile(pattern)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def _any(*checks: _Check) -> _Check:
    return lambda value: any(check(value) for check in checks)


def _list(check: _Check, most: int = 1000) -> _Check:
    return lambda value: (
        isinstance(value, list) and len(value) <= most and all(check(item) for item in value)
    )


def _object(checks: dict[str, _Check]) -> _Check:
    return lambda value: (
        isinstance(value, dict)
        and all(name in checks and checks[name](item) for name, item in value.items())
    )


# vega-tooltip loads a field `image` as a picture; every JavaScript object has the others.
_NO_FIELD = UNSAFE_NAMES | {"image", "hasOwnProperty", "toString", "valueOf", "toLocaleString"}
# Vega-Lite reads brackets, dots, quotes and backslashes in a name as a path.
_no_label = re.compile(r"""["`\\<\n\r\u0085\u2028\u2029]""")
_name = re.compile(r"[^\W_][\w \-()%/:+*#$€°²,]{0,199}")


def _is_field(value: Any) -> bool:
    return (
        isinstance(value, str)
        and value not in _NO_FIELD
        and not value.startswith("__")
        and _name.fullmatch(value) is not None
    )


def _is_label(value: Any) -> bool:
    """Return whether it can be a title.

    Vega-Lite writes it into the expression of a tooltip, as the name of a value.
    """
    return (
        isinstance(value, str)
        and len(value) <= 1000
        and is_plain(value)
        and not _no_label.search(value)
        and value.strip() not in _NO_FIELD
    )


def _is_row(value: Any) -> bool:
    if not isinstance(value, dict):
        return _is_scalar(value)
    return all(
        isinstance(name, str) and name not in _NO_FIELD and is_plain(name) and _is_scalar(item)
        for name, item in value.items()
    )


def _is_dataset(value: Any) -> bool:
    return _is_field(value) and re.fullmatch(r"[\w\-]+", value) is not None


def _is_category(value: Any) -> bool:
    """Return whether the value is safe in an expression that Vega-Lite writes."""
    return _is_scalar(value) and (
        not isinstance(value, str) or re.search(r"""["'`\\<]""", value) is None
    )


def _are_rows(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) <= _MOST_ROWS and all(_is_row(row) for row in value)
    )


_is_title = _any(_is_label, _list(_is_label, 20), _words("", None))
_is_color = _text(r"#[0-9a-fA-F]{3,8}|[a-zA-Z]{1,30}|(?:rgb|hsl)a?\([0-9., %]{1,40}\)")
# Numbers of three digits are widths that take more memory than a page has.
_is_format = _text(r"(?!.*\d{3})[\w%.,+\-()$~ :/#=*^<>]{0,40}")
_is_size = _between(-10_000, 10_000)
_is_count = _between(0, 1000)
_is_font = _text(r"[\w ,\-]{1,100}")
_are_numbers = _list(_is_number, 20)
_align = _words("left right center top middle bottom alphabetic line-top line-bottom")
_anchor = _words("start middle end", None)
_orient = _words(
    "left right top bottom top-left top-right bottom-left bottom-right none horizontal vertical"
)
_interpolate = _words(
    "basis basis-open basis-closed bundle cardinal cardinal-open cardinal-closed catmull-rom "
    "linear linear-closed monotone natural step step-before step-after"
)
_shape = _words(
    "circle square cross diamond triangle triangle-up triangle-down triangle-right triangle-left "
    "arrow wedge stroke"
)
_weight = _any(_words("normal bold lighter bolder"), _is_number)

# Keys that only affect the look have the same meaning everywhere: in marks, axes, legends, titles,
# views, and the configuration of each.
_STYLE: dict[str, _Check] = {
    **dict.fromkeys(
        "angle bandPosition bandSize baseLineHeight binSpacing clipHeight columnPadding columns "
        "continuousBandSize continuousHeight continuousWidth cornerRadius cornerRadiusBottomLeft "
        "cornerRadiusBottomRight cornerRadiusEnd cornerRadiusTopLeft cornerRadiusTopRight "
        "discreteBandSize domainDashOffset domainOpacity domainWidth dx dy fillOpacity fontSize "
        "gradientLength gradientThickness gridOpacity gridWidth height innerRadius labelAngle "
        "labelBound labelFontSize labelLimit labelLineHeight labelOffset labelOpacity "
        "labelPadding labelSeparation limit lineBreakHeight lineHeight maxExtent minBandSize "
        "minExtent minOpacity offset opacity outerRadius padAngle padding position radius "
        "radius2 rowPadding size spacing step strokeDashOffset strokeMiterLimit strokeOffset "
        "strokeOpacity strokeWidth subtitleFontSize subtitleLineHeight subtitlePadding "
        "symbolOpacity symbolSize symbolStrokeWidth tension theta theta2 thickness tickBand "
        "tickMinStep tickOffset tickOpacity tickSize tickWidth titleAngle "
        "titleFontSize titleLimit titleLineHeight titleOpacity titlePadding titleX titleY "
        "translate width x x2 xOffset y y2 yOffset zindex".split(),
        _is_size,
    ),
    **dict.fromkeys(
        "aria clip disable domain filled grid invalid labelFlush labels rule tickRound ticks "
        "titleBaselineFlush".split(),
        _any(_is_bool, _words("", None)),
    ),
    **dict.fromkeys(
        "color domainColor fill fillColor gridColor labelColor stroke strokeColor subtitleColor "
        "symbolFillColor symbolStrokeColor tickColor titleColor".split(),
        _any(_is_color, _words("", None)),
    ),
    **dict.fromkeys(
        "align baseline labelAlign labelBaseline titleAlign titleBaseline".split(), _align
    ),
    **dict.fromkeys(("anchor", "labelAnchor", "titleAnchor"), _anchor),
    **dict.fromkeys(("direction", "legendX", "orient", "titleOrient"), _orient),
    **dict.fromkeys(("font", "labelFont", "subtitleFont", "titleFont"), _is_font),
    **dict.fromkeys(
        ("fontStyle", "labelFontStyle", "titleFontStyle"), _words("normal italic oblique")
    ),
    **dict.fromkeys(
        ("fontWeight", "labelFontWeight", "subtitleFontWeight", "titleFontWeight"), _weight
    ),
    **dict.fromkeys(
        ("dash", "domainDash", "gridDash", "strokeDash", "symbolDash", "tickDash"), _are_numbers
    ),
    **dict.fromkeys(("shape", "symbolType"), _shape),
    "tickCount": _is_count,
    "cursor": _words("default pointer crosshair auto none"),
    "format": _is_format,
    "frame": _words("bounds group"),
    "interpolate": _interpolate,
    "labelOverlap": _any(_is_bool, _words("parity greedy")),
    "strokeCap": _words("butt round square"),
    "strokeJoin": _words("miter round bevel"),
    "title": _is_title,
    "tooltip": _any(_is_bool, _words("", None)),
}
_is_style = _object(_STYLE)
# In axes and legends some keys have another meaning.
_is_guide = _any(
    _object(
        {
            **_STYLE,
            "values": _list(_is_category),
            "type": _words("symbol gradient"),
        }
    ),
    _words("", None),
)
_is_part = _any(_is_bool, _is_style)
_MARKS = (
    "arc area bar boxplot circle errorband errorbar line point rect rule square text tick trail"
)
_is_mark = _any(
    _words(_MARKS),
    _object(
        {
            **_STYLE,
            "type": _words(_MARKS),
            "extent": _any(_is_number, _words("min-max ci iqr stderr stdev")),
            "line": _is_part,
            "orient": _orient,
            "order": _is_bool,
            "point": _any(_is_part, _words("transparent")),
            **dict.fromkeys(
                ("box", "median", "outliers", "ticks", "rule", "band", "borders"), _is_part
            ),
            "width": _any(_is_size, _object({"band": _is_size})),
            "height": _any(_is_size, _object({"band": _is_size})),
            # Text that is shown, and edges of the view.
            "text": _is_label,
            **dict.fromkeys(("x", "x2"), _any(_is_size, _words("width"))),
            **dict.fromkeys(("y", "y2"), _any(_is_size, _words("height"))),
        }
    ),
)
_is_scale = _object(
    {
        "type": _words(
            "linear log pow sqrt symlog time utc ordinal band point quantile quantize threshold "
            "bin-ordinal identity sequential"
        ),
        "domain": _any(_list(_is_category), _words("unaggregated")),
        "range": _any(
            _list(_any(_is_number, _is_color, _shape, _are_numbers)),
            _words("category ordinal ramp diverging heatmap symbol width height"),
        ),
        "scheme": _text(r"(?!constructor)[a-z0-9]{1,30}(?:-[0-9]{1,2})?"),
        "nice": _any(
            _is_bool, _is_count, _words("millisecond second minute hour day week month year")
        ),
        "interpolate": _words("rgb hsl hsl-long lab hcl hcl-long cubehelix cubehelix-long"),
        **dict.fromkeys(("clamp", "reverse", "round", "zero"), _is_bool),
        **dict.fromkeys(
            (
                *("align", "constant", "domainMax", "domainMid", "domainMin"),
                *("exponent", "padding", "paddingInner", "paddingOuter", "rangeMax", "rangeMin"),
            ),
            _is_number,
        ),
        # The page loops over its powers, and over their multiples.
        "base": _between(2, 100),
    }
)
_CHANNELS = frozenset(
    "angle color column detail facet fill fillOpacity opacity order radius radius2 row shape size "
    "stroke strokeDash strokeOpacity strokeWidth text theta theta2 tooltip x x2 xError xError2 "
    "xOffset y y2 yError yError2 yOffset".split()
)
_is_definition = _object(
    {
        "field": _is_field,
        "type": _words("quantitative temporal ordinal nominal"),
        "aggregate": _words(
            "average ci0 ci1 count distinct max mean median min missing product q1 q3 stderr "
            "stdev stdevp sum valid variance variancep"
        ),
        "bin": _any(
            _is_bool,
            _words("binned", None),
            _object(
                {
                    # Not `base` and `step`: the page would count bins without end.
                    "maxbins": _between(2, 1000),
                    "extent": _are_numbers,
                    **dict.fromkeys(("nice", "binned"), _is_bool),
                }
            ),
        ),
        "timeUnit": _text(
            r"(?:binned)?(?:utc)?(?:year|quarter|month|week|day|dayofyear|date|hours|minutes|"
            r"seconds|milliseconds){1,8}"
        ),
        "title": _is_title,
        "sort": _any(
            _words("ascending descending x y color size -x -y -color -size", None),
            _list(_is_category),
        ),
        "stack": _any(_is_bool, _words("zero normalize center", None)),
        "scale": _is_scale,
        "axis": _is_guide,
        "legend": _is_guide,
        "header": _is_guide,
        "value": _any(
            _is_number, _is_bool, _is_color, _text(r"[\w .,:%+\-]{0,200}"), _words("", None)
        ),
        "datum": _any(_is_number, _is_bool, _text(r"[\w .,:%+\-]{0,200}")),
        "format": _is_format,
        "bandPosition": _is_number,
        "align": _words("all each none"),
        "center": _is_bool,
        "columns": _is_number,
        "spacing": _is_number,
    }
)
_is_encoding = _object(
    {name: _any(_is_definition, _list(_is_definition, 100), _words("", None)) for name in _CHANNELS}
)
_is_config = _object(
    {
        **dict.fromkeys(
            (
                *_MARKS.split(),
                *("axis", "axisX", "axisY", "axisBottom", "axisLeft", "axisRight", "axisTop"),
                *("axisBand", "axisDiscrete", "axisPoint", "axisQuantitative", "axisTemporal"),
                *("concat", "facet", "header", "headerColumn", "headerRow", "legend", "mark"),
                *("title", "view"),
            ),
            _is_style,
        ),
        "background": _is_color,
        "font": _is_font,
        "padding": _is_number,
    }
)
_is_extent = _any(_between(0, 10_000), _words("container"), _object({"step": _is_count}))
_is_shared = _object(dict.fromkeys(_CHANNELS, _words("shared independent")))
_CHART: dict[str, _Check] = {
    "$schema": _text(r"https?://vega\.github\.io/schema/vega-lite/v[0-9.]{1,20}\.json"),
    "align": _words("all each none"),
    "autosize": _words("pad fit fit-x fit-y none"),
    "background": _any(_is_color, _words("", None)),
    "bounds": _words("full flush"),
    "center": _is_bool,
    "columns": _is_number,
    "config": _is_config,
    "data": _any(
        _object({"values": _are_rows, "name": _is_dataset}),
        _words("", None),
    ),
    "datasets": lambda value: (
        isinstance(value, dict)
        and all(_is_dataset(name) and _are_rows(rows) for name, rows in value.items())
    ),
    "description": _is_label,
    "encoding": _is_encoding,
    "height": _is_extent,
    "mark": _is_mark,
    "padding": _is_number,
    "resolve": _object(dict.fromkeys(("axis", "legend", "scale"), _is_shared)),
    "spacing": _is_number,
    "title": _any(_is_title, _object({**_STYLE, "text": _is_title, "subtitle": _is_title})),
    "view": _is_style,
    "width": _is_extent,
}
_SEVERAL = frozenset(("concat", "hconcat", "layer", "vconcat"))
# Altair itself allows 5,000.
_MOST_ROWS = 50_000
# Deeper nested charts are drawn in the frame.
_DEEPEST = 4
_MOST_PARTS = 100


def _is_chart(spec: Any, depth: int) -> bool:
    if not isinstance(spec, dict) or depth > _DEEPEST:
        return False
    for name, value in spec.items():
        if name in _SEVERAL:
            if not isinstance(value, list) or len(value) > _MOST_PARTS:
                return False
            if not all(_is_chart(part, depth + 1) for part in value):
                return False
        elif name not in _CHART or not _CHART[name](value):
            return False
    return True
