"""CSS that can style its own output and nothing else.

It checks whether a `style` attribute or the text of a style element may stay. Styles may not cover
the page, load from an address, or reach other elements.
"""

from __future__ import annotations

import re

_PROPERTIES = frozenset(
    """
    background background-color border border-bottom border-bottom-color border-bottom-style
    border-bottom-width border-collapse border-color border-left border-left-color
    border-left-style border-left-width border-radius border-right border-right-color
    border-right-style border-right-width border-spacing border-style border-top border-top-color
    border-top-style border-top-width border-width caption-side color column-gap columns cursor
    display empty-cells flex flex-direction flex-grow flex-shrink flex-wrap align-items
    justify-content float clear font font-family font-size font-style font-variant font-weight gap
    grid-template-columns height letter-spacing line-height list-style list-style-type margin
    margin-bottom margin-left margin-right margin-top max-height max-width min-height min-width
    opacity overflow overflow-wrap overflow-x overflow-y padding padding-bottom padding-left
    padding-right padding-top table-layout tab-size text-align text-decoration
    text-decoration-line text-overflow text-transform vertical-align visibility white-space width
    word-break word-spacing word-wrap
    """.split()
)
_FUNCTIONS = frozenset(
    "rgb rgba hsl hsla linear-gradient radial-gradient calc min max repeat minmax var".split()
)
# The parts of a value: names, strings, colours, numbers without a sign. No backslash, colon, @ or
# <: neither escapes nor addresses. A minus may only be in a name, so that no length is negative: a
# negative length moves an element out of its place.
_PIECES = (
    r"[\s,()]|/(?!\*)|-{0,2}[a-z][\w-]*+|#[0-9a-f]++"
    r"|\+?(?:\d++(?:\.\d++)?+|\.\d++)(?:%|[a-z]++)?+(?![\w.-])"
    r"|'[\w\s#%.,()+*/-]*+'|\"[\w\s#%.,()+*/-]*+\""
)
_END = r")*+(?:!\s*+important)?+\s*+\Z"
_value = re.compile(f"(?:{_PIECES}{_END}", re.A | re.I)
_size = re.compile(rf"(?:{_PIECES}|[+-](?=\s)|\*(?!/){_END}", re.A | re.I)
# Their result may be negative, which only a size can't be.
_calculates = re.compile(r"\b(?:calc|min|max)\(", re.I)
_SIZES = frozenset(
    """
    width min-width max-width height min-height max-height padding padding-top padding-right
    padding-bottom padding-left
    """.split()
)
_function = re.compile(r"(?<![\w-])([\w-]*+)\(")
_declaration = re.compile(r"\s*([a-z-]+)\s*:([^;{}]*)\Z", re.I)
# Each selector starts at the output's own table. `+` and `~` would reach its siblings.
_own_table = re.compile(r"\s*+#T_\w++(?:[\s>]*+[\w.:#-]|\(\w++\))*+\s*+\Z", re.A)
_any_table = re.compile(r"\s*+\.dataframe(?:[\s>]++[a-z]++(?::[a-z-]++)?+)*+\s*+\Z")
_rule = re.compile(r"([^{}]*+)\{([^{}]*+)\}")
# The properties that pandas itself sets for `.dataframe`, which is in other outputs too.
_OF_ANY_TABLE = frozenset(("vertical-align", "text-align"))


def is_safe_value(value: str, name: str = "") -> bool:
    """Return whether this value only affects the look.

    Arguments:
        name: the property of the value.
    """
    is_size = name.lower() in _SIZES
    if (_size if is_size else _value).match(value) is None:
        return False
    if not is_size and _calculates.search(value):
        return False
    return all(it.lower() in _FUNCTIONS or not it for it in _function.findall(value))


def is_safe_style(declarations: str) -> bool:
    """Return whether a `style` attribute may stay unchanged."""
    return _allowed(declarations, _PROPERTIES)


def is_safe_block(css: str) -> bool:
    """Return whether a style element may stay unchanged, as those of pandas and its Styler may."""
    at = 0
    while (rule := _rule.match(css, at)) is not None:
        at = rule.end()
        selectors = rule[1].split(",")
        if all(_own_table.match(selector) for selector in selectors):
            allowed = _PROPERTIES
        elif all(_any_table.match(selector) for selector in selectors):
            allowed = _OF_ANY_TABLE
        else:
            return False
        if not _allowed(rule[2], allowed):
            return False
    return not css[at:].strip()


def _allowed(declarations: str, properties: frozenset[str]) -> bool:
    for part in declarations.split(";"):
        if not part.strip():
            continue
        found = _declaration.match(part)
        if (
            found is None
            or found[1].lower() not in properties
            or not is_safe_value(found[2], found[1])
        ):
            return False
    return True
