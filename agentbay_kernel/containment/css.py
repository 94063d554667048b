"""CSS that can style its own output and nothing else.

In: a `style` attribute or the text of a style element. Out: may it stay? What is laid over the
page, what loads from an address, and what reaches elements of others may not.
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
# No backslash, colon, @ or <: neither escapes nor addresses. No negative lengths: they move what
# they are set on out of its place.
_value = re.compile(r"(?!.*(?:^|[\s,(])-[\d.])[\w\s#%.,()+*/'\"-]*(?:!\s*important)?\s*\Z", re.A)
_function = re.compile(r"([\w-]*)\(")
_declaration = re.compile(r"\s*([a-z-]+)\s*:([^;{}]*)\Z", re.I)
# Each selector begins at the output's own table. `+` and `~` would reach beside it.
_own_table = re.compile(r"\s*#T_\w+(?:[\s>]*[\w.:#-]|\(\w+\))*\s*\Z", re.A)
_any_table = re.compile(r"\s*\.dataframe(?:[\s>]+[a-z]+(?::[a-z-]+)?)*\s*\Z")
_rule = re.compile(r"([^{}]*)\{([^{}]*)\}")
# All that pandas itself says of `.dataframe`, which is in other outputs too.
_OF_ANY_TABLE = frozenset(("vertical-align", "text-align"))


def is_safe_value(value: str) -> bool:
    """Can this value only look like something?"""
    return _value.match(value) is not None and all(
        name.lower() in _FUNCTIONS or not name for name in _function.findall(value)
    )


def is_safe_style(declarations: str) -> bool:
    """May a `style` attribute stay as it is?"""
    return _allowed(declarations, _PROPERTIES)


def is_safe_block(css: str) -> bool:
    """May a style element stay as it is? Those of pandas' tables and of its Styler may."""
    at = 0
    for rule in _rule.finditer(css):
        if rule.start() != at:
            return False
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
        if found is None or found[1].lower() not in properties or not is_safe_value(found[2]):
            return False
    return True
