"""The site of the documentation, as a reader gets it: its search, its pictures, the course."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.docs.site import built, serving

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

# Words that a reader may search for, with a page that must be found.
SEARCHED = {
    "isolation": "explanation/security",
    "cost": "how-to/sessions",
    "grade": "how-to/grading",
    "debugger": "how-to/debugger",
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the site is served."""
    with serving(built(tmp_path_factory)) as served:
        yield served


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that may load from this machine and from nowhere else."""
    context = browser.new_context()
    elsewhere: list[str] = []
    context.on("request", lambda it: elsewhere.append(it.url))
    yield context.new_page()
    context.close()
    assert [it for it in elsewhere if not it.startswith(("http://127.0.0.1:", "data:"))] == []


@pytest.mark.parametrize(
    ("word", "name"),
    [
        # `make test` has one word, which stands on many pages.
        pytest.param(*it, marks=[pytest.mark.slow] * (it[0] != "isolation"))
        for it in SEARCHED.items()
    ],
)
def test_the_search_finds(word: str, name: str, page: Page, address: str) -> None:
    page.goto(f"{address}/search.html?q={word}")
    page.locator("#search-results .search-summary", has_text="found").wait_for()
    links = page.locator("#search-results ul.search > li > a").all()
    found = [str(link.get_attribute("href")).partition("?")[0] for link in links]
    # Among the first that a reader sees.
    assert any(it.startswith(f"{name}.html") for it in found[:10]), found[:10]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_picture_follows_the_theme(scheme: str, page: Page, address: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    for name in ("index", "tutorials/kernel", "explanation/security", "how-to/debugger"):
        page.goto(f"{address}/{name}.html")
        pictures = page.locator("article img.only-light, article img.only-dark")
        shown = [it for it in pictures.all() if it.is_visible()]
        assert shown, name
        for picture in shown:
            picture.scroll_into_view_if_needed()
            assert picture.evaluate("it => it.decode().then(() => it.naturalWidth)") > 400
            assert f"-{scheme}." in str(picture.get_attribute("src"))


def test_the_course_is_shown_with_its_outputs(page: Page, address: str) -> None:
    page.goto(f"{address}/tutorials/course.html")
    page.locator("article").get_by_role("link", name="First steps", exact=True).click()
    page.get_by_text("Ships in the bay: Aurora, Borealis, Corvus").wait_for()
    assert page.locator(".cell_output img").first.is_visible()
    assert page.locator(".cell_output table").first.is_visible()


def test_a_helper_of_a_notebook_is_folded(page: Page, address: str) -> None:
    page.goto(f"{address}/course/02-break-the-sandbox.html")
    helper = page.get_by_text("class NotConfined")
    assert not helper.is_visible()
    page.get_by_text("Show the code").first.click()
    helper.wait_for()
