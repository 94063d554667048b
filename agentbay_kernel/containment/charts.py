"""SVG pictures: which are inert even where a front end puts them into its page."""

from __future__ import annotations

import re

_svg_active = re.compile(
    r"<\s*(?:script|foreignObject|iframe|object|embed|handler|listener|image\s[^>]*href\s*=\s*"
    r"""["'](?!data:image/))|\son[a-z]+\s*=|javascript:|<!ENTITY|<\?xml-stylesheet|@import|"""
    r"""url\(\s*["']?(?!\#|data:)|(?:xlink:)?href\s*=\s*["']?\s*(?![\s"'\#]|data:image/)""",
    re.I,
)


def is_still_svg(source: str) -> bool:
    """Is the picture inert even where a front end puts SVG into its page?"""
    return "&#" not in source and _svg_active.search(source) is None
