"""HTML that may be in the page itself.

HTML of a sandbox is either inert (then it is kept byte for byte), or inert after sanitising without
a visible difference, or not shown inline at all.

Markup is read twice, by a strict tokenizer here and by nh3's HTML5 parser. HTML that is kept
unchanged has only start tags and attributes of one list, quoted so that every HTML parser splits it
into the same tokens: no element among them has content that is read by other rules.

The page's MathJax reads the text of all HTML. If that contains more than `tex` allows, each mark
that could start or end a formula is put into its own element, and MathJax finds no formula.
"""

from __future__ import annotations

import functools
import html
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from agentbay_kernel.containment.css import is_safe_block, is_safe_style
from agentbay_kernel.containment.tex import LONGEST, has_formula, is_safe_tex
from agentbay_kernel.containment.text import is_plain, visible

if TYPE_CHECKING:
    import nh3

_TAGS = frozenset(
    """
    a abbr address article aside audio b big blockquote br caption center cite code col colgroup
    dd del details dfn div dl dt em figcaption figure font footer h1 h2 h3 h4 h5 h6 header hr i
    img ins kbd li main mark meter nav ol p pre progress q rp rt ruby s samp section small source
    span strike strong sub summary sup table tbody td tfoot th thead time tr tt u ul var video wbr
    """.split()
)
_VOID = frozenset("br col hr img source wbr".split())
# Their end tags may be missing, so an open one does not mean that the next element is inside it.
_ENDS_BY_ITSELF = frozenset("p li dt dd td th tr tbody thead tfoot colgroup rp rt".split())
_ATTRIBUTES = frozenset(
    """
    abbr align alt autoplay bgcolor border cellpadding cellspacing class color colspan controls
    datetime dir face frame height hidden high href id lang loop low max min muted nowrap open
    optimum poster preload reversed rowspan rules scope size span src start style summary title
    type valign value width
    """.split()
)
# They do more than affect the look. nh3 removes them, which changes what the HTML does.
_ACTIVE = frozenset(
    """
    action archive autofocus background classid codebase data dynsrc formaction http-equiv
    longdesc lowsrc manifest ping popover popovertarget profile srcdoc srcset usemap xmlns
    """.split()
)
# Classes that pandas writes; the last ones exclude formulas in a table. Other classes only have a
# meaning in a style sheet, and the page has its own: `jp-Dialog` covers all of it.
_class = re.compile(
    r"dataframe|data|index_name|blank|(?:row|col)_heading|(?:row|col)_trim|(?:row|col|level)\d+"
    r"|(?:mathjax|tex2jax)_ignore"
)
# Names that Styler gives to its cells.
_id = re.compile(r"T_\w+\Z", re.A)
_web = re.compile(r"(?:https?://|mailto:)[^\s\x00-\x20]*\Z", re.I)
_picture = re.compile(
    r"data:image/(?:png|jpe?g|gif|webp|bmp|svg\+xml);base64,[A-Za-z0-9+/=\s]*\Z", re.A | re.I
)
_media = re.compile(
    r"data:(?:audio|video)/[\w.+-]+(?:;codecs=[\w.,-]+)?;base64,[A-Za-z0-9+/=\s]*\Z",
    re.A | re.I,
)

# Possessive quantifiers: hostile markup must not cause backtracking.
_attribute = re.compile(
    r"""\s++([a-zA-Z_:@][\w:.@-]*+)(?>\s*+=\s*+(?:"([^"<]*+)"|'([^'<]*+)'|([\w%#.+-]++)))?+""",
    re.A,
)
_ANY_ATTRIBUTE = _attribute.pattern.replace("(?", "\0").replace("(", "(?:").replace("\0", "(?")
_token = re.compile(
    r"(?P<text>(?:[^<]|<(?=[\s\d=]))++)"
    r"|(?P<comment><!--[^<>-]*+(?:-[^<>-]++)*+-->)"
    r"""|<style(?: scoped| type="text/css")?>(?P<css>[^<]*+)</style>"""
    r"|</(?P<end>[a-zA-Z][\w-]*+)\s*+>"
    rf"|<(?P<start>[a-zA-Z][\w:-]*+)(?P<attributes>(?:{_ANY_ATTRIBUTE})*+)\s*+/?>",
    re.A,
)

# Parsing time grows faster than the size; a frame needs no parsing.
_LONGEST = 4_000_000
# Tags, entities twice, and half of the marks of formulas: each takes some microseconds.
_MOST_MARKS = 400_000
_DEEPEST = 100
# A parser moves nested tables and links, rarely more than once.
_MOST_READINGS = 5


class Fate(Enum):
    """The decision on markup."""

    KEPT = "it is inert as it is"
    CLEANED = "it is inert without what nobody sees"
    FOREIGN = "it does or loads something, or styles more than itself"


@dataclass(frozen=True)
class Judgement:
    """The fate of a piece of HTML; `html` is the part that may be in the page, or empty."""

    fate: Fate
    html: str = ""


def judge(source: str) -> Judgement:
    """Return whether this HTML may be in the page, and in which form."""
    tokens = _tokens(source)
    if tokens is None:
        return Judgement(Fate.FOREIGN)
    if tokens.fate is Fate.KEPT and is_plain(html.unescape(source)):
        parsed = _cleaner().clean(tokens.without_styles)
        again = _tokens(parsed)
        if again is not None and again.is_same_as(tokens):
            if tokens.styles:
                # A style separates two texts, but some readers remove it.
                parsed = _cleaner().clean(_style.sub("<wbr>", source))
            if _has_safe_formulas(parsed):
                return Judgement(Fate.KEPT, source)
    return Judgement(Fate.CLEANED, tokens.styles + sanitized(tokens.without_styles))


def sanitized(source: str) -> str:
    """Return the HTML without anything that acts, loads or leaves its place; empty if too long."""
    if not can_be_sanitized(source):
        return ""
    cleaned = visible(_cleaner().clean(source.encode("utf-8", "replace").decode("utf-8")))
    for _ in range(_MOST_READINGS):
        # Another parser may read the result as other elements: `<a><table><a>`. The page must read
        # exactly what was checked.
        again = _cleaner().clean(cleaned)
        if again == cleaned:
            break
        cleaned = again
    else:
        return as_safe_html(source)
    shown = _with_safe_formulas(cleaned)
    return shown if len(shown) <= 2 * _LONGEST else ""


def can_be_sanitized(source: str) -> bool:
    """Return whether HTML is short and flat enough to be sanitised."""
    return not _is_long(source) and not _is_deep(source)


def as_safe_html(text: str) -> str:
    """Return plain text as HTML: safe formulas in it are set, other text is shown literally.

    Readers of formulas skip the content of `<pre>`.
    """
    escaped = html.escape(visible(text), quote=False)
    return escaped if is_safe_tex(visible(text)) else f"<pre>{escaped}</pre>"


# These separate texts for every reader. Of other elements a sanitizer may leave only the content.
_PARTS = frozenset(
    """
    a b blockquote caption code col colgroup div dd dl dt em h1 h2 h3 h4 h5 h6 hr i img li ol p pre
    s span strong sub summary sup table tbody td tfoot th thead tr u ul
    """.split()
)
# The output of nh3: attributes in double quotes, no other `<`.
_tag = re.compile(r"""(<(?:[^<>"]|"[^"]*")*>)""")
_name = re.compile(r"</?([a-z0-9]*)")
_style = re.compile(r"<style[^<>]*>[^<]*</style>")
# Replaces a tag that separates a text for some readers. nh3 leaves no such character.
_SEAM = "\0"
_cut_command = re.compile(rf"\\[a-zA-Z]*{_SEAM}")
# The start or the end of a formula; or a part of it, if a tag cuts it.
_mark = re.compile(r"\$|\\(?=[(\[ber]|\Z)")


def _has_safe_formulas(cleaned: str) -> bool:
    return _mark.search(cleaned) is None or all(safe for safe, _ in _runs(_tag.split(cleaned)))


def _with_safe_formulas(cleaned: str) -> str:
    """Return the HTML of nh3, changed so that MathJax finds only safe formulas in it."""
    if _mark.search(cleaned) is None:
        return cleaned
    pieces = _tag.split(cleaned)
    for is_safe, texts in list(_runs(pieces)):
        if not is_safe:
            for at in texts:
                # A mark alone between two tags neither starts nor ends anything.
                pieces[at] = _mark.sub(r"<span>\g<0></span>", pieces[at])
    return "".join(pieces)


def _runs(pieces: list[str]) -> Iterator[tuple[bool, list[int]]]:
    """Yield the texts that MathJax reads in one: whether each is safe, and its pieces' indices.

    Arguments:
        pieces: text and tags in turns, as `_tag` splits them.
    """
    run: list[str] = []
    texts: list[int] = []
    verbatim = length = 0
    for at, piece in enumerate([*pieces, "<hr>"]):
        if at % 2 == 0:
            # MathJax reads neither `pre` nor `code`.
            if piece and not verbatim:
                run.append(html.unescape(piece))
                texts.append(at)
            continue
        found = _name.match(piece)
        name = found[1] if found is not None else ""
        if name in _PARTS:
            text = "".join(run)
            if has_formula(text):
                length += len(text)
                whole = length <= LONGEST and _cut_command.search(text) is None
                yield whole and is_safe_tex(text.replace(_SEAM, "")), texts
            run, texts = [], []
        else:
            run.append("\n" if name == "br" else _SEAM)
        if name in ("pre", "code"):
            verbatim += -1 if piece.startswith("</") else 1


@dataclass
class _Tokens:
    fate: Fate
    starts: Counter[tuple[str, tuple[tuple[str, str], ...]]]
    styles: str
    without_styles: str

    def is_same_as(self, other: _Tokens) -> bool:
        # Parsers add these if they are missing.
        added = {
            start: count
            for start, count in (self.starts - other.starts).items()
            if start[0] not in ("tbody", "tr", "colgroup")
        }
        return not added and not other.starts - self.starts


def _tokens(source: str) -> _Tokens | None:
    """Return the tokens of markup, or None if it can't be shown inline."""
    if _is_long(source):
        return None
    fate, depth, at = Fate.KEPT, 0, 0
    starts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
    styles: list[str] = []
    rest: list[str] = []
    while at < len(source):
        found = _token.match(source, at)
        if found is None:
            return None
        at = found.end()
        kind = found.lastgroup if found.lastgroup != "attributes" else "start"
        if kind == "css":
            if not is_safe_block(found["css"]):
                return None
            styles.append(found[0])
            continue
        rest.append(found[0])
        if kind == "comment":
            fate = Fate.CLEANED
        elif kind == "end":
            if found["end"].lower() not in _TAGS:
                return None
            depth -= found["end"].lower() not in _ENDS_BY_ITSELF
        elif found["start"] is not None:
            tag = found["start"].lower()
            depth += tag not in _VOID and tag not in _ENDS_BY_ITSELF
            if tag not in _TAGS or depth > _DEEPEST:
                return None
            attributes = _attributes(found["attributes"])
            for name, value in attributes:
                of_attribute = _fate_of(tag, name, value)
                if of_attribute is Fate.FOREIGN:
                    return None
                if of_attribute is Fate.CLEANED:
                    fate = Fate.CLEANED
            starts[tag, tuple(sorted(attributes))] += 1
    return _Tokens(fate, starts, "".join(styles), "".join(rest))


def _attributes(text: str) -> list[tuple[str, str]]:
    return [
        (found[1].lower(), html.unescape(found[2] or found[3] or found[4] or ""))
        for found in _attribute.finditer(text)
    ]


def _fate_of(tag: str, name: str, value: str) -> Fate:
    """Return the fate of markup that has this attribute."""
    if name.startswith("on") or name in _ACTIVE or ":" in name:
        return Fate.FOREIGN
    if name not in _ATTRIBUTES:
        return Fate.CLEANED
    if _filtered(tag, name, value) is not None:
        return Fate.KEPT
    if name == "href":
        # A link to the Jupyter server becomes text. Others were meant to be active.
        is_link = tag == "a" and not re.match(r"[\s\x00-\x20]*[a-z][\w+.-]*:", value, re.I)
        return Fate.CLEANED if is_link else Fate.FOREIGN
    return Fate.CLEANED if name in ("class", "id") else Fate.FOREIGN


def _filtered(tag: str, name: str, value: str) -> str | None:
    """Return the value of an attribute if it may stay, otherwise None; nh3's attribute filter."""
    if name == "style":
        allowed = is_safe_style(value)
    elif name == "class":
        allowed = all(_class.fullmatch(word) for word in value.split())
    elif name == "id":
        allowed = _id.match(value) is not None
    elif name == "href":
        allowed = tag == "a" and _web.match(value) is not None
    elif name == "src":
        source = _picture if tag == "img" else _media
        allowed = tag in ("img", "audio", "video", "source") and source.match(value) is not None
    elif name == "poster":
        allowed = _picture.match(value) is not None
    else:
        allowed = name in _ATTRIBUTES
    return value if allowed else None


@functools.cache
def _cleaner() -> nh3.Cleaner:
    # Imported here: it takes 2 MB, and a kernel needs it only for its first output.
    import nh3

    return nh3.Cleaner(
        tags=set(_TAGS),
        clean_content_tags={"script", "style", "template", "title", "textarea", "noscript"},
        attributes={"*": set(_ATTRIBUTES)},
        attribute_filter=_filtered,
        link_rel=None,
        url_schemes={"http", "https", "mailto", "data"},
    )


def _is_long(source: str) -> bool:
    marks = source.count("<") + 2 * source.count("&")
    marks += (source.count("$") + source.count("\\")) // 2
    return len(source) > _LONGEST or marks > _MOST_MARKS


def _is_deep(source: str) -> bool:
    """Return whether elements are nested too deeply: parsing takes quadratic time."""
    depth = 0
    for found in re.finditer(r"<(/?)([a-zA-Z][\w-]*)", source):
        if found[2].lower() in _VOID or found[2].lower() in _ENDS_BY_ITSELF:
            continue
        depth = max(0, depth - 1) if found[1] else depth + 1
        if depth > _DEEPEST * 2:
            return True
    return False
