"""Reading pages and cards as a browser would, and whether anything in a card could act."""

from collections import Counter
from html.parser import HTMLParser

# Names that runs may have, and texts that models may write.
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
# Half of a surrogate pair, which no table can hold.
HALF = "half \ud83d"
# Elements that are never closed.
VOID = {"br", "hr", "img", "input", "link", "meta"}


class Reader(HTMLParser):
    """The elements, attributes and text of a page without its scripts, and whether every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.source = page
        self.tags: Counter[str] = Counter()
        self.attributes: Counter[tuple[str, str | None]] = Counter()
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.update(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.text += data

    def of(self, name: str) -> list[str | None]:
        """The values of an attribute."""
        return [value for key, value in self.attributes.elements() if key == name]


TAGS = {"div", "span", "table", "thead", "tbody", "tr", "th", "td", "code", "bdi", "details", "summary"}
ATTRIBUTES = {"style", "title", "class", "scope"}


def tame(page: str) -> bool:
    """Nothing but what cards are made of, all of it closed, all of it text that UTF-8 can hold."""
    read = Reader(page)
    page.encode()
    hidden = any(mark in page for mark in "\x00\x1b\u202e\u200f\u2028")
    names = {name for name, _ in read.attributes}
    return read.tags.keys() <= TAGS and names <= ATTRIBUTES and not read.open and not hidden
