"""Generates the reference pages, and adds pages to the site; `mkdocs.yml` names this file.

`python docs_hooks.py` writes commands and their options (from the application), settings (`crosspatch.config`) and
columns (`crosspatch.tables`) between the marks in docs/reference; a test checks that the pages are up to date.
Changelog and benchmarks become pages of the site as they are.
"""

from __future__ import annotations

import html
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import typer.main

from crosspatch import tables
from crosspatch.cli import application
from crosspatch.config import Experiment, Settings
from crosspatch.settings_io import settings

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parent

# Files of the repository that are pages too, by where they stand; docs link to them as ../PATH.
ELSEWHERE = {"benchmarks/README.md": "benchmarks.md", "CHANGELOG.md": "changelog.md"}

# What is generated stands between two comments.
MARK = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

# A setting of more names than these lists them in its meaning.
FEW = 5


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand elsewhere."""
    from mkdocs.structure.files import File

    for path, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links that leave docs/ lead to pages."""
    up = "../" * page.file.src_uri.count("/")
    for path, target in ELSEWHERE.items():
        markdown = markdown.replace(f"](../{up}{path}", f"]({up}{target}")
    return markdown


def filled(markdown: str) -> str:
    """A page with what is generated between its marks."""
    makers = {"commands": commands, "settings": all_settings, "columns": columns}
    return MARK.sub(lambda mark: f"{mark[1]}{makers[mark[2]]()}\n\n{mark[3]}", markdown)


def commands() -> str:
    """Every command with its arguments and options, in the order of `crosspatch --help`."""
    lines: list[str] = []
    for name, command, context in _commands(typer.main.get_command(application.app), "crosspatch"):
        lines += ["", f"## {name}", "", _plain(command.help or context.parent.command.help or "")]
        lines += ["", "```text", _usage(context), "```"]
        if not hasattr(command, "commands"):
            records = (param.get_help_record(context) for param in command.params)
            rows = [(f"`{names}`", _plain(meaning)) for names, meaning in filter(None, records)]
            lines += ["", *_table(("argument or option", "meaning"), rows)]
        if read := application._SECTIONS.get(name.split()[-1], ()):
            groups = [group or "top level" for group in read]
            linked = (f"[{group}](settings.md#{group.replace(' ', '-')})" for group in groups)
            lines += ["", f"Settings it reads: {', '.join(linked)}."]
        elif name == "crosspatch run":
            lines += ["", "Settings it reads: [all](settings.md)."]
    return "\n".join(lines)


def all_settings() -> str:
    """Every setting of an experiment, by group, with what it may be, its default and its meaning."""
    lines: list[str] = []
    chosen = [("", "top level", Experiment)]
    for name, field in Experiment.model_fields.items():
        if _is_group(field.annotation):
            chosen.append((name, name, field.annotation))
    for section, title, group in chosen:
        lines += ["", f"## {title}", "", _plain(inspect.cleandoc(group.__doc__ or "")), ""]
        rows = [
            (f"`{one.key}`", _allowed(group, one.key), f"`{one.default}`", _plain(one.meaning))
            for one in settings([section])
        ]
        lines += _table(("setting", "value", "default", "meaning"), rows)
    return "\n".join(lines)


def columns() -> str:
    """Every column of every table, with its type and its meaning."""
    lines: list[str] = []
    for schema in tables.SCHEMAS:
        lines += ["", f"## {schema.name}", "", f"`{schema.file}`", ""]
        rows = [(f"`{name}`", f"`{dtype}`", _plain(meaning)) for name, (dtype, meaning) in schema.columns.items()]
        lines += _table(("column", "type", "meaning"), rows)
    return "\n".join(lines)


def _commands(command: Any, name: str, parent: Any = None) -> Iterator[tuple[str, Any, Any]]:
    """Name, command and context of every command below one, groups before what is in them."""
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    if parent is not None:
        yield context.command_path, command, context
    for sub in command.list_commands(context) if hasattr(command, "commands") else ():
        yield from _commands(command.commands[sub], sub, context)


def _usage(context: Any) -> str:
    """As commands are written by people: EXPERIMENT is an argument, [EXPERIMENT] one that can be left out."""
    usage = context.get_usage().removeprefix("Usage: ")
    return re.sub(r"\{([^}]+)\}", r"\1", usage).replace("[[", "[").replace("]]", "]")


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    heads = tuple(heads)
    return [f"| {' | '.join(row)} |" for row in (heads, ("---",) * len(heads), *rows)]


def _plain(text: str) -> str:
    """Text that markdown leaves as it is, but for `code`."""
    words = text.split("`")
    return "".join(f"<code>{_escaped(word)}</code>" if i % 2 else _escaped(word) for i, word in enumerate(words))


def _escaped(text: str) -> str:
    return "".join(f"&#{ord(char)};" if char in r"\*_{}[]|" else char for char in html.escape(text, quote=False))


def _is_group(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Settings)


def _allowed(group: type[Settings], key: str) -> str:
    """What a setting may be, in words, and its bounds."""
    field = group.model_fields[key.rpartition(".")[2]]
    bounds = [_bound(one) for one in field.metadata]
    return ", ".join(filter(None, [_words(field.annotation), *bounds]))


def _words(annotation: Any) -> str:
    kind, parts = get_origin(annotation), get_args(annotation)
    if kind is Literal:
        return " or ".join(f"`{part}`" for part in parts) if len(parts) <= FEW else "a name, see the meaning"
    if kind is dict:
        return "mapping"
    if kind is tuple:
        return f"list of: {_words(parts[0])}"
    if hasattr(annotation, "__metadata__"):
        bounds = [_bound(one) for extra in annotation.__metadata__ for one in getattr(extra, "metadata", [])]
        return ", ".join(filter(None, [_words(annotation.__origin__), *bounds]))
    if kind is Union or parts:
        return " or ".join(_words(part) for part in parts)
    return {bool: "yes or no", int: "whole number", float: "number", str: "text", type(None): "null"}[annotation]


def _bound(constraint: Any) -> str:
    signs = {"ge": "≥", "gt": "&gt;", "le": "≤", "lt": "&lt;"}
    given = [(sign, getattr(constraint, name)) for name, sign in signs.items() if hasattr(constraint, name)]
    return ", ".join(f"{sign}&nbsp;{limit:g}" for sign, limit in given)


if __name__ == "__main__":
    for path in (ROOT / "docs/reference").glob("*.md"):
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
