"""The output budget: what is folded, what gives way to a note, and that nothing is hidden."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import strategies as st

from agentbay_kernel.execution.output_limit import OutputLimit, collapse
from tests.fuzzing import FEW, MANY, fuzz


def streamed(limit: OutputLimit, *pieces: tuple[str, str]) -> tuple[str, str, str]:
    """What is shown of pieces of streams: while they come, at the end, and our own words."""
    live, end, said = "", "", ""
    for name, text in pieces:
        for kind, content in limit.admit("stream", {"name": name, "text": text}):
            if kind == "display_data":
                said += content["data"]["text/plain"]
            else:
                assert kind == "stream"
                assert content["name"] == name
                live += content["text"]
    for kind, content in limit.closing():
        if kind == "display_data":
            said += content["data"]["text/plain"]
        else:
            end += content["text"]
    return live, end, said


def show(limit: OutputLimit, size: int, kind: str = "display_data", **data: Any) -> Any:
    content = {"data": {"image/png": "x" * size, "text/plain": "<Figure>", **data}}
    return limit.admit(kind, {**content, "metadata": {}, "transient": {}})


def test_what_fits_is_passed_on_at_once_and_nothing_is_said() -> None:
    assert streamed(OutputLimit(1_000), ("stdout", "a" * 500), ("stderr", "b" * 200)) == (
        "a" * 500 + "b" * 200,
        "",
        "",
    )


def test_the_end_is_shown_when_the_cell_ends_and_the_rest_is_counted() -> None:
    text = "".join(f"{number:09}\n" for number in range(1_000))
    pieces = [("stdout", text[at : at + 70]) for at in range(0, len(text), 70)]
    live, end, said = streamed(OutputLimit(1_000), *pieces)
    # A piece that crosses the limit is shown as far as it fits.
    assert live == text[:750] and end == text[-250:]
    assert "9,000 characters (900 lines) are left out here" in said
    assert "has printed 750 characters" in said
    assert "output_limit" in said


def test_a_message_to_a_widget_is_limited_as_an_update_is() -> None:
    limit = OutputLimit(1_000, 100)
    for _ in range(5):
        assert limit.admit("comm_msg", {}, [b"x" * 60, b"y" * 40]) == [("comm_msg", {})]
    assert limit.admit("comm_msg", {}, [b"x" * 101]) == []
    assert limit.admit("comm_close", {}, [b"x" * 101]) != []
    ((_, told),) = limit.closing()
    assert "1 displays of this cell are left out" in told["data"]["text/plain"]


def test_a_text_that_just_fits_loses_nothing() -> None:
    live, end, said = streamed(OutputLimit(1_000), *[("stdout", "abcd")] * 250)
    assert live + end == "abcd" * 250
    assert "left out" not in said


def test_one_piece_larger_than_the_limit_is_folded_too() -> None:
    live, end, said = streamed(OutputLimit(100), ("stdout", "a" * 75 + "b" * 1_000 + "c" * 25))
    assert (live, end) == ("a" * 75, "c" * 25)
    assert "1,000 characters (0 lines)" in said


def test_both_streams_keep_their_order_and_names() -> None:
    limit = OutputLimit(100)
    long = ("stdout", "a" * 75), ("stdout", "x" * 500)
    for name, text in (*long, ("stderr", "E"), ("stdout", "o")):
        limit.admit("stream", {"name": name, "text": text})
    _, *rest = limit.closing()
    last = [(content["name"], content["text"]) for _, content in rest]
    assert last == [("stdout", "x" * 23), ("stderr", "E"), ("stdout", "o")]


def test_what_has_no_end_says_once_that_it_is_not_shown() -> None:
    limit = OutputLimit(100, keeps_end=False)
    live, end, said = streamed(limit, *[("stdout", "abcd")] * 100)
    assert live == "abcd" * 25 and end == ""
    assert said.count("is not shown") == 1


def test_memory_is_bounded_whatever_is_printed() -> None:
    limit = OutputLimit(200_000)
    tracemalloc.start()
    for number in range(30_000):
        name = ("stdout", "stderr")[number % 2]
        limit.admit("stream", {"name": name, "text": f"{number}\n" * 10})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("\r 1%\r 2%\r 3%", "\r 3%"),
        ("a\r 1%\r 2%\r 3%", "a\r 3%"),
        ("10%\r20%\r30%\ndone\n", "10%\r30%\ndone\n"),
        ("\r100\r99\r5", "\r100\r99\r5"),
        ("\rlonger\rshort\rbetween", "\rbetween"),
        ("a\r\nb\r\n", "a\r\nb\r\n"),
        ("1\r2\r3\r\n", "1\r3\r\n"),
        ("\r\x1b[31m1%\r\x1b[31m2%\r3%", "\r\x1b[31m1%\r\x1b[31m2%\r3%"),
        ("no return", "no return"),
    ],
)
def test_progress_is_collapsed_where_it_is_covered(text: str, kept: str) -> None:
    assert collapse(text) == kept


def rendered(text: str) -> str:
    """As a terminal shows it."""
    lines = []
    for line in text.split("\n"):
        shown: list[str] = []
        for part in line.split("\r"):
            shown[: len(part)] = part
        lines.append("".join(shown))
    return "\n".join(lines)


@pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_what_is_seen_stays_the_same(examples: int) -> None:
    def check(text: str, before: str) -> None:
        assert rendered(before + collapse(text)) == rendered(before + text)
        assert len(collapse(text)) <= len(text)

    texts = st.text("ab\r\n", max_size=30)
    fuzz(check, examples, texts, st.text("ab\r", max_size=9))


@pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_every_character_is_shown_or_counted(examples: int) -> None:
    def check(pieces: list[tuple[str, str]], characters: int) -> None:
        limit = OutputLimit(characters)
        live, end, said = streamed(limit, *pieces)
        left_out = (
            int(said.rpartition("[AgentBay: ")[2].split()[0].replace(",", ""))
            if ("left out" in said)
            else 0
        )
        text = "".join(text for _, text in pieces)
        assert len(live) + len(end) <= characters
        assert len(live) + len(end) + left_out == len(text)
        assert text.startswith(live)

    names = st.sampled_from(["stdout", "stderr"])
    pieces = st.lists(st.tuples(names, st.text("ab\n", max_size=40)), max_size=20)
    fuzz(check, examples, pieces, st.integers(1, 200))


def test_a_progress_bar_takes_no_more_than_its_line() -> None:
    limit = OutputLimit(2_000)
    live, end, said = streamed(limit, *[("stderr", f"\r{n:3}%|{'#' * 40}|") for n in range(200)])
    assert live.endswith("199%|" + "#" * 40 + "|") and not end and not said


def test_a_display_that_is_too_large_gives_way_to_a_note() -> None:
    limit = OutputLimit(1_000, display_bytes=2_000_000)
    assert show(limit, 1_000)[0][1]["data"]["image/png"] == "x" * 1_000
    ((_, content),) = show(limit, 3_000_000)
    assert "image/png" not in content["data"]
    assert content["data"]["text/plain"].startswith("<Figure>\n[AgentBay: image/png of 3.0 MB")
    assert "display_limit" in content["data"]["text/plain"]
    # What is smaller still fits.
    assert "image/png" in show(limit, 1_000)[0][1]["data"]


def test_many_displays_have_the_limit_together_and_notes_do_not_flood() -> None:
    limit = OutputLimit(1_000, display_bytes=100_000)
    shown = [part for _ in range(1_000) for part in show(limit, 10_000)]
    assert len(shown) < 40
    assert sum(len(content["data"].get("image/png", "")) for _, content in shown) <= 100_000
    ((_, said),) = limit.closing()
    assert "991 displays of this cell are left out" in said["data"]["text/plain"]


def test_live_plots_go_on_for_ever() -> None:
    limit = OutputLimit(1_000, display_bytes=100_000)
    for _ in range(100):
        (update,) = show(limit, 50_000, "update_display_data")
        assert "image/png" in update[1]["data"]
        limit.admit("clear_output", {"wait": True})
        assert "image/png" in show(limit, 50_000)[0][1]["data"]
