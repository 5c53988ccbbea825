"""Reading cards as a browser would, and whether anything in them could act."""

from collections import Counter
from html.parser import HTMLParser

# What models, runs or tokens may be called or write.
HOSTILE = [
    "</script></bdi><script>alert(1)</script>",
    '<b>bold</b><a href="https://example.org">x</a>',
    '" onmouseover="alert(1)',
    "$\\frac{1}{$",
    "\x00\x07\x1b[31m",
    "\u202egnirts\u200f",
    "日本🗾שלום\u2028\u2029",
    "{{ 7 * 7 }}{% raw %}%{customdata[0]}",
    "x" * 10_000,
    "",
    " \n\t",
]
# No table holds this.
HALF = "half \ud83d"


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
