"""Formulas in generated texts, as trees of MathML that a page builds element by element.

Generated LaTeX is untrusted: only an allow-list of elements and attributes is kept, and a formula that the library
cannot parse stays text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from html import unescape
from xml.etree.ElementTree import Element

from crosspatch.characters import legible

# The page uses the same pattern, so it must mean the same in JavaScript.
# No space follows an opening dollar sign and no digit a closing one: "$5 and $6" is money.
FORMULA = (
    r"\\\[([\s\S]{1,800}?)\\\]|\\\(([\s\S]{1,800}?)\\\)|\$\$([\s\S]{1,800}?)\$\$|\$(?!\s)([^$\n]{0,399}[^$\s])\$(?!\d)"
)
# The most formulas of a run that are converted; more would take long.
MOST_FORMULAS = 5_000

# No real formula is nested deeper; JSON and browsers allow a few hundred levels.
_DEEPEST = 60

# [tag, attributes, children]; a child is a tree or a text.
Tree = list[object]

_ELEMENTS = frozenset((
    "math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "ms", "mfrac", "msqrt", "mroot", "msub", "msup", "msubsup",
    "munder", "mover", "munderover", "mtable", "mtr", "mtd", "mstyle", "mpadded", "mphantom", "menclose", "merror",
))  # fmt: skip
_ATTRIBUTES = frozenset((
    "display", "displaystyle", "mathvariant", "stretchy", "fence", "separator", "form", "lspace", "rspace",
    "minsize", "maxsize", "symmetric", "accent", "accentunder", "movablelimits", "linethickness", "columnalign",
    "rowspacing", "columnspacing", "width", "height", "depth", "notation", "linebreak", "scriptlevel",
))  # fmt: skip
_CHILDREN = {"mfrac": 2, "mroot": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2, "msubsup": 3, "munderover": 3}
# Environments that the library knows as align*.
_ENVIRONMENT = re.compile(r"\\(begin|end)\{(?:aligned|split|gathered)\}")


def formulas(texts: Iterable[str]) -> dict[str, Tree]:
    """The formulas of legible texts that can be drawn, by their source with delimiters."""
    found = dict.fromkeys(match[0] for text in texts for match in re.finditer(FORMULA, text))
    trees = {}
    for written in list(found)[:MOST_FORMULAS]:
        tree = formula_tree(written)
        if tree is not None:
            trees[written] = tree
    return trees


@cache
def formula_tree(written: str) -> Tree | None:
    """One formula with its delimiters as a tree; None if it cannot be drawn."""
    from latex2mathml.converter import convert_to_element

    match = re.fullmatch(FORMULA, written)
    if match is None:
        return None
    latex = next(part for part in match.groups() if part is not None)
    display = "block" if written[:2] in (r"\[", "$$") else "inline"
    try:
        return _tree(convert_to_element(_ENVIRONMENT.sub(r"\\\1{align*}", latex), display=display))
    # The library raises errors of many types, such as IndexError and KeyError.
    except Exception:
        return None


class _UnknownError(Exception):
    """A tree that is not plain mathematics: an unknown element or command, or a wrong shape."""


def _tree(element: Element, depth: int = 0) -> Tree:
    tag, children = element.tag, list(element)
    if depth > _DEEPEST or tag not in _ELEMENTS or len(children) != _CHILDREN.get(tag, len(children)):
        raise _UnknownError(tag)
    text = legible(unescape(element.text or ""))
    # The library returns an unknown command as a name.
    if text.startswith("\\") and len(text) > 1:
        raise _UnknownError(text)
    attributes = {name: str(value) for name, value in element.attrib.items() if name in _ATTRIBUTES}
    return [tag, attributes, [*([text] if text else []), *(_tree(child, depth + 1) for child in children)]]
