"""Elements of HTML and SVG as a tree: text is only ever text, so no id or title can become markup."""

import math
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, tostring

Content = Element | str | Mapping[str, str | float]
"""What an element is made of: children, text, and a mapping of attributes."""

_JOINERS = "\u200c\u200d"  # invisible, but Persian words and many emoji are written with them
_ON_LINES = {
    "head",
    "meta",
    "title",
    "style",
    "body",
    "nav",
    "main",
    "section",
    "figure",
    "svg",
    "details",
    "table",
} | {
    *("thead", "tbody", "tr", "h1", "h2", "h3", "p", "ul", "ol", "li", "dl", "dt", "dd", "div", "footer"),
}


def tag(name: str, *content: Content) -> Element:
    """Make an element of the tree.

    `tag("p.note", {"id": "why"}, "text ", tag("b", "strong"))` is a paragraph of class `note` with the id `why`.

    Args:
        name: The element's name, then its classes, each after a dot.
    """
    kind, *classes = name.split(".")
    element = Element(kind, {"class": " ".join(classes)} if classes else {})
    for one in content:
        if isinstance(one, Element):
            element.append(one)
        elif isinstance(one, str):
            _add_text(element, printable(one))
        else:
            element.attrib |= {key: value if isinstance(value, str) else number(value) for key, value in one.items()}
    if kind in _ON_LINES:
        element.tail = "\n"
    return element


def document(root: Element) -> str:
    """The whole page as HTML."""
    return "<!DOCTYPE html>\n" + tostring(root, encoding="unicode", method="html")


def printable(text: str) -> str:
    """The text in one line, with a mark in place of each character that steers a screen or turns its direction."""
    return "".join(
        one if one.isprintable() or one in _JOINERS else " " if one.isspace() else "\N{REPLACEMENT CHARACTER}"
        for one in text
    )


def number(value: float) -> str:
    """A coordinate or size, to a hundredth.

    Raises:
        ValueError: It is NaN or infinite, which no browser can draw.
    """
    if not math.isfinite(value):
        raise ValueError(f"a drawing needs finite numbers, found {value}")
    return f"{value:.2f}".rstrip("0").rstrip(".")


def table(header: Sequence[str], rows: Sequence[Sequence[Content]]) -> Element:
    """A table in which the first cell of a row names it; it scrolls by itself where the screen is too narrow."""
    head = tag("tr", *(tag("th", {"scope": "col"}, name) for name in header))
    body = [tag("tr", tag("th", {"scope": "row"}, name), *(tag("td", cell) for cell in cells)) for name, *cells in rows]
    return tag("div.scroll", {"tabindex": "0"}, tag("table", tag("thead", head), tag("tbody", *body)))


def section(title: str, *content: Content) -> Element:
    """A part of the page under its heading; the heading's words also name it in links."""
    return tag("section", {"id": anchor(title)}, tag("h2", title), *content)


def anchor(title: str) -> str:
    """A title as the target of a link."""
    return "-".join("".join(one if one.isalnum() else " " for one in title.lower()).split())


def folded(summary: str, *content: Content) -> Element:
    """Content that a click unfolds."""
    return tag("details", tag("summary", summary), *content)


def facts(pairs: Mapping[str, Content]) -> Element:
    """Names with what is said of each."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", what)) for name, what in pairs.items()))


def notes(lines: Sequence[str]) -> list[Element]:
    """What to keep in mind, one line each; nothing where there is none."""
    return [tag("ul.notes", *(tag("li", line) for line in lines))] if lines else []


def _add_text(element: Element, text: str) -> None:
    if len(element):
        element[-1].tail = (element[-1].tail or "") + text
    else:
        element.text = (element.text or "") + text
