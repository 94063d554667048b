"""SVG pictures: kept unchanged, shown as an `<img>`, or refused.

JupyterLab shows `image/svg+xml` as an `<img>`, in which nothing runs or loads. Other front ends
put it into their page as markup. So it keeps its type only if everything in it is on the lists
below, and if every HTML parser reads the same from it as the XML parser here. That means: no CDATA,
no processing instruction, no entity except XML's own, no name with its own namespace. expat is used
directly because it reports these; parsers that build a tree hide them. Any other well-formed
picture becomes the source of an `<img>`. A picture that no browser would draw, or that would keep
it busy for minutes, is refused.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal
from xml.parsers import expat

from agentbay_kernel.containment.text import is_plain

NAMESPACE = "http://www.w3.org/2000/svg"
# Longer sources, deeper trees and more shapes keep a browser busy for minutes.
LONGEST = 20_000_000
_DEEPEST = 200
_MOST_SHAPES = 1_000_000
_MOST_REFERENCES = 20_000
# Elements and attributes to read; each takes some microseconds.
_MOST_READ = 500_000
# Limit of the stored references to parts, for parts within parts.
_MOST_NOTED = 2_000_000
# Characters of a style, an id or a class that are checked; longer ones are not inert.
_LONGEST_LOOK = 10_000

# Elements that draw, and nothing else: no links, scripts, documents, animations, filters.
_ELEMENTS = frozenset(
    """
    circle clipPath defs desc ellipse g image line linearGradient marker mask metadata path pattern
    polygon polyline radialGradient rect stop style svg symbol text textPath title tspan use
    """.split()
)
# matplotlib's description of a picture, in RDF. These names mean nothing to a page.
_METADATA = frozenset(
    """
    rdf:RDF cc:Work cc:Agent dc:type dc:date dc:format dc:creator dc:title dc:description
    dc:publisher dc:rights dc:source dc:identifier dc:language dc:subject dc:relation
    dc:contributor dc:coverage rdf:Bag rdf:li
    """.split()
)
# HTML's own rules apply inside these, so they may have text only.
_TEXT_ONLY = frozenset(("title", "desc", "style"))
_NAMESPACES = {
    "xmlns": NAMESPACE,
    "xmlns:svg": NAMESPACE,
    "xmlns:xlink": "http://www.w3.org/1999/xlink",
    "xmlns:rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "xmlns:cc": "http://creativecommons.org/ns#",
    "xmlns:dc": "http://purl.org/dc/elements/1.1/",
}
# Attributes with a name of CSS; `style` may hold the same.
_LOOKS = frozenset(
    """
    alignment-baseline baseline-shift clip-path clip-rule color dominant-baseline fill
    fill-opacity fill-rule font font-family font-size font-stretch font-style font-variant
    font-weight image-rendering letter-spacing marker-end marker-mid marker-start mask
    mix-blend-mode opacity paint-order shape-rendering stop-color stop-opacity stroke
    stroke-dasharray stroke-dashoffset stroke-linecap stroke-linejoin stroke-miterlimit
    stroke-opacity stroke-width text-anchor text-decoration text-rendering transform
    transform-origin vector-effect visibility white-space word-spacing writing-mode
    """.split()
)
_GEOMETRY = frozenset(
    """
    cx cy d dx dy fx fy gradientTransform gradientUnits height lengthAdjust markerHeight
    markerUnits markerWidth maskContentUnits maskUnits clipPathUnits offset orient pathLength
    patternContentUnits patternTransform patternUnits points preserveAspectRatio r refX refY
    rotate rx ry spreadMethod startOffset textLength version viewBox width x x1 x2 y y1 y2
    """.split()
)
_number_list = re.compile(r"[\w\s.,()+%-]*\Z", re.A)
# No colon, backslash, quote or `@`: neither addresses nor escapes.
_look = re.compile(r"(?:[\w\s.,()+%#-]++|'[\w\s.,-]*+'|\"[\w\s.,-]*+\")*+\Z", re.A)
_function = re.compile(r"(?<![\w-])([\w-]*+)\(")
_FUNCTIONS = frozenset(
    "rgb rgba hsl hsla matrix translate scale rotate skewx skewy url translatex translatey".split()
)
_url = re.compile(r"url\(#[\w.:-]+\)")
_own = re.compile(r"#([\w.:-]{1,200})\Z", re.A)
_reference = re.compile(r"url\(\s*+[\"']?#([^)\"'\s]++)")
_raster = re.compile(r"data:image/(?:png|jpe?g|gif|webp);base64,[A-Za-z0-9+/=\s]*\Z", re.A)
# No names of a kind that the page uses for its own parts.
_id = re.compile(r"(?!jp-|jupyter|lm-|cm-)(?=[^\d]*\d)[\w.:-]{1,200}\Z", re.A)
# The classes of Graphviz. The page's style sheets don't use them.
_CLASSES = frozenset(("graph", "node", "edge", "cluster"))
# matplotlib's style sheet: a rule for the whole page, which only sets how lines end and meet.
_line_ends = re.compile(
    r"\s*+\*\s*+\{(?:\s*+stroke-line(?:join|cap)\s*+:\s*+(?:round|butt|square|miter|bevel)"
    r"\s*+;?+)*+\s*+\}\s*+\Z"
)
_strange_entity = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[0-9a-fA-F]+);)")
_root = re.compile(r"<svg(?=[\s/>])")
_declaration = re.compile(r"\s*+<\?xml[^>?]*+(?:\?(?!>)[^>?]*+)*+\?>")
_another_svg = re.compile(r"\s*data:(?!image/(?:png|jpe?g|gif|webp|avif|bmp)[;,])", re.I)


@dataclass(frozen=True)
class Svg:
    """The decision on a picture: `kept` unchanged, shown as a `picture`, or `refused`.

    `why` is the reason of a refusal. `source` is the picture to keep, or the source of the image.
    """

    fate: Literal["kept", "picture", "refused"]
    source: str = ""
    why: str = ""

    @property
    def as_html(self) -> str:
        """An image of it, which runs nothing and loads nothing in any front end."""
        packed = base64.b64encode(self.source.encode()).decode("ascii")
        return f'<img src="data:image/svg+xml;base64,{packed}">'


class _NotShown(Exception):
    """Why no browser should get a picture."""


def judge_svg(source: str) -> Svg:
    """Return how this picture may be shown."""
    if len(source) > LONGEST:
        return Svg("refused", why=f"it is longer than {LONGEST // 1_000_000} MB")
    try:
        encoded = source.encode()
    except UnicodeEncodeError:
        return Svg("refused", why="it holds half a character")
    if source.count("<") > 2 * _MOST_READ:
        # Each element has at most two of them.
        return Svg("refused", why=f"it holds more than {_MOST_READ:,} elements and attributes")
    reader = _Reader()
    try:
        reader.read(encoded.removeprefix(b"\xef\xbb\xbf"))
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        return Svg("refused", why=f"it is not well-formed XML (line {error.lineno}: {reason})")
    except _NotShown as reason:
        return Svg("refused", why=str(reason))
    if reader.is_inert and _strange_entity.search(source) is None and is_plain(source):
        return Svg("kept", source)
    source = source.removeprefix("\ufeff")
    if not reader.has_namespace:
        # Without it a browser draws nothing; JupyterLab adds it too.
        source = _root.sub(f'<svg xmlns="{NAMESPACE}"', source, count=1)
    # The declared encoding does not apply any more.
    declared = _declaration.match(source)
    return Svg("picture", source[declared.end() :] if declared else source)


@dataclass
class _Element:
    """An open element."""

    name: str
    id: str = ""
    shapes: int = 1
    refers: Counter[str] = field(default_factory=Counter)


class _Reader:
    """Reads a picture once: checks all of it against the lists, and counts what it draws."""

    def __init__(self) -> None:
        self.is_inert = True
        self.has_namespace = False
        self._open: list[_Element] = []
        self._named: dict[str, _Element] = {}
        self._everywhere: Counter[str] = Counter()
        self._referred: set[str] = set()
        self._text: list[str] = []
        self._root: _Element | None = None
        self._read = self._noted = 0

    def read(self, source: bytes) -> None:
        """Read all of it.

        Raises:
            expat.ExpatError: it is not well-formed.
            _NotShown: a browser should not get it.
        """
        # Raw names: an HTML parser ignores prefixes. UTF-8, whatever the picture declares.
        parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.CommentHandler = self._comment
        parser.StartDoctypeDeclHandler = self._doctype
        parser.XmlDeclHandler = self._declaration
        parser.EntityDeclHandler = self._entity
        parser.ProcessingInstructionHandler = self._instruction
        parser.StartCdataSectionHandler = self._strange
        parser.SkippedEntityHandler = self._strange
        parser.Parse(source, True)
        if self._root is None or self._root.name.rpartition(":")[2] != "svg":
            raise _NotShown("it is no SVG")
        self._count_shapes()

    def _strange(self, *_: object) -> None:
        self.is_inert = False

    def _instruction(self, target: str, data: str) -> None:
        self.is_inert = False
        if target == "xml-stylesheet":
            raise _NotShown("it is drawn by a style sheet of its own; save it as plain SVG")

    def _doctype(self, name: str, system: str | None, public: str | None, inside: int) -> None:
        if inside:
            raise _NotShown("it defines entities of its own; save it as plain SVG")
        text = f"{name}{system or ''}{public or ''}"
        if not re.fullmatch(r"[\w\s./:+-]*", text, re.A):
            self.is_inert = False

    def _entity(self, *_: object) -> None:
        raise _NotShown("it defines entities of its own; save it as plain SVG")

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() not in ("utf-8", "us-ascii"):
            self.is_inert = False

    def _comment(self, text: str) -> None:
        # HTML ends some comments where XML does not.
        if "<" in text or ">" in text or text.endswith("!"):
            self.is_inert = False

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) >= _DEEPEST:
            raise _NotShown(f"it is nested deeper than {_DEEPEST} elements")
        self._read += 1 + len(attributes)
        if self._read > _MOST_READ:
            raise _NotShown(f"it holds more than {_MOST_READ:,} elements and attributes")
        self._end_text()
        parent = self._open[-1] if self._open else None
        element = _Element(name, attributes.get("id", ""))
        if parent is None:
            self._root = element
            self.has_namespace = "xmlns" in attributes or ":" in name
        known = _METADATA if parent and parent.name in {"metadata", *_METADATA} else _ELEMENTS
        if name not in known or (parent is not None and parent.name in _TEXT_ONLY):
            self.is_inert = False
        for attribute, value in attributes.items():
            self._attribute(element, attribute, value)
        self._open.append(element)

    def _attribute(self, element: _Element, name: str, value: str) -> None:
        found = _reference.findall(value)
        if name.rpartition(":")[2] == "href":
            if value.strip().startswith("#"):
                found.append(value.strip()[1:])
            elif _another_svg.match(value):
                raise _NotShown("it holds a document within it")
        element.refers.update(found)
        self._referred.update(found)
        if len(self._referred) > _MOST_REFERENCES:
            raise _NotShown(f"it refers to more than {_MOST_REFERENCES:,} of its parts")
        if self.is_inert and not _is_inert_attribute(element.name, name, value):
            self.is_inert = False

    def _characters(self, text: str) -> None:
        self._text.append(text)

    def _end_text(self) -> None:
        text, self._text = "".join(self._text), []
        if not self._open:
            return
        if self._open[-1].name.rpartition(":")[2] == "style":
            self._everywhere.update(_reference.findall(text))
            if not _line_ends.match(text):
                self.is_inert = False
        elif "\\" in text or not is_plain(text):
            # An exported page passes text with formulas to MathJax.
            self.is_inert = False

    def _end(self, name: str) -> None:
        self._end_text()
        element = self._open.pop()
        if element.id:
            # If two have one id, a browser uses one of them: counted as both.
            named = self._named.setdefault(element.id, _Element(name, shapes=0))
            named.shapes += element.shapes
            self._note(named, element)
        if self._open:
            self._open[-1].shapes += element.shapes
            self._note(self._open[-1], element)

    def _note(self, whole: _Element, part: _Element) -> None:
        self._noted += len(part.refers)
        if self._noted > _MOST_NOTED:
            raise _NotShown("too many of its parts within parts refer to others")
        whole.refers.update(part.refers)

    def _count_shapes(self) -> None:
        """Raise _NotShown if references to references draw too many shapes."""
        assert self._root is not None
        drawn: dict[str, int] = {}
        # Depth first, without recursion: chains of references can be long.
        waiting = [(name, False) for name in self._named]
        while waiting:
            name, counted = waiting.pop()
            element = self._named.get(name)
            if element is None or (name in drawn and not counted):
                continue
            if not counted:
                # A cycle counts once: browsers don't follow it.
                drawn[name] = element.shapes
                waiting.append((name, True))
                waiting.extend((other, False) for other in element.refers if other not in drawn)
                continue
            drawn[name] = min(_total(element, drawn), _MOST_SHAPES + 1)
        total = _total(self._root, drawn)
        total += self._root.shapes * sum(drawn.get(name, 0) for name in self._everywhere)
        if total > _MOST_SHAPES:
            raise _NotShown(f"it draws more than {_MOST_SHAPES:,} shapes")


def _total(element: _Element, drawn: dict[str, int]) -> int:
    return element.shapes + sum(
        times * drawn.get(name, 0) for name, times in element.refers.items()
    )


def _is_inert_attribute(element: str, name: str, value: str) -> bool:
    if len(value) > _LONGEST_LOOK and name not in _GEOMETRY and not name.endswith("href"):
        return False
    if name in _NAMESPACES:
        return value == _NAMESPACES[name]
    if element in _METADATA:
        return name in ("rdf:about", "rdf:resource") and "\\" not in value
    if name == "style":
        return _is_inert_style(element, value)
    if name in _LOOKS:
        return _is_look(element, name, value)
    if name in _GEOMETRY:
        return _number_list.match(value) is not None
    if name == "id":
        return _id.match(value) is not None
    if name == "class":
        return all(word in _CLASSES for word in value.split())
    if name in ("href", "xlink:href"):
        if element == "image":
            return _raster.match(value) is not None
        return _own.match(value) is not None
    if name == "type":
        return element == "style" and value == "text/css"
    return name == "xml:space" and value in ("preserve", "default")


def _is_inert_style(element: str, value: str) -> bool:
    for part in value.split(";"):
        name, _, look = part.partition(":")
        if part.strip() and not _is_look(element, name.strip(), look):
            return False
    return True


def _is_look(element: str, name: str, value: str) -> bool:
    if name not in _LOOKS or _look.match(value) is None:
        return False
    if element == "svg" and name.startswith("transform"):
        # A transform of the whole picture would move it over the page.
        return False
    functions = [name.lower() for name in _function.findall(value)]
    return all(name in _FUNCTIONS or not name for name in functions) and len(
        _url.findall(value)
    ) == functions.count("url")
