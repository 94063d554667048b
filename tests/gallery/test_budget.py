"""Ten charts of one library in a notebook: what is stored, and what is said of those not live."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.kernels import running_kernel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MOST_BYTES = 12_000_000
CELL_S = 240
CHARTS = {
    "plotly": (
        "import plotly.graph_objects as go",
        "fig = go.Figure(go.Bar(y=[1, {0}]))\nfig",
    ),
    "Altair": (
        "import altair as alt\nimport pandas as pd",
        "chart = alt.Chart(pd.DataFrame({{'x': [1, {0}]}})).mark_tick().encode(x='x')\nchart",
    ),
}


@pytest.mark.parametrize("library", CHARTS)
def test_ten_charts_of_a_library(home: Path, tmp_path: Path, library: str) -> None:
    setup, chart = CHARTS[library]
    with running_kernel("agentbay-python", {"AGENTBAY_BACKEND": "local"}, tmp_path) as kernel:
        assert kernel.run(setup, CELL_S).reply["status"] == "ok"
        stored = [kernel.run(chart.format(n), CELL_S).kept() for n in range(10)]
        pages = [markup_of(outputs) for outputs in stored]
        assert sum(len(json.dumps(contents_of(outputs))) for outputs in stored) <= MOST_BYTES
        assert "<iframe" in pages[0]
        if library == "Altair":
            # They are small enough.
            assert all("<iframe" in page for page in pages)
            return
        assert "<iframe" not in pages[9]
        save, download = map(html.unescape, re.findall("<code>(.*?)</code>", pages[9]))
        # What the note says works as it is typed.
        for typed in (save, download):
            assert kernel.run(typed, CELL_S).reply["status"] == "ok", typed
    assert "plotly.js v" in (tmp_path / "chart.html").read_text(encoding="utf-8")


def contents_of(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [output["content"] for output in outputs]


def markup_of(outputs: list[dict[str, Any]]) -> str:
    (content,) = contents_of(outputs)
    return str(content["data"]["text/html"])
