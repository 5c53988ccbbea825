"""Reading cards as a browser would, and whether anything in them could act."""

from collections import Counter
from html.parser import HTMLParser

HOSTILE = [
    "</bdi><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "\u202egnirts\u200f",
    "\x00\x07\x1b[31m",
    "half \ud83d",
    "x" * 10_000,
    "שלום",
    "$\\frac{1}{0}$",
]


class Reader(HTMLParser):
    """The elements, attributes and text of a page, and whether every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: set[tuple[str, str | None]] = set()
        self.classes: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= set(attrs)
        self.classes |= {part for name, value in attrs if name == "class" for part in (value or "").split()}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


TAGS = {"div", "span", "table", "thead", "tbody", "tr", "th", "td", "code", "bdi", "details", "summary"}
ATTRIBUTES = {"style", "title", "class", "scope"}


def tame(page: str) -> bool:
    """Nothing but what cards are made of, all of it closed, all of it text that UTF-8 can hold."""
    read = Reader(page)
    page.encode()
    hidden = any(mark in page for mark in "\x00\x1b\u202e\u200f\u2028")
    names = {name for name, _ in read.attributes}
    return read.tags.keys() <= TAGS and names <= ATTRIBUTES and not read.open and not hidden
