r"""Every usual file of questions is read, and others are refused with their line; escapes are undone.

`dataset_files.jsonl` holds files with their rows (number, line, question, solution, answer) or with the error.
"""

import csv
import io
import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspatch.data.escaped_text import is_escaped, unescaped
from crosspatch.data.lines import read_lines
from crosspatch.data.table import Row, read_rows
from crosspatch.errors import UsageError

# Contents that are too large, or no text.
LARGE: list[tuple[str | bytes, str, str]] = [
    ('question,solution\nq,"' + "open\n" * 40_000, "a.csv", "line 2: not CSV (field larger than field limit"),
    ("question,solution\nq," + "a" * 10_000_000, "a.csv", "line 2: longer than 10,000,000 bytes"),
    ("a" * 10_000_001, "a.csv", "line 1: longer than"),
    (b"question,solution\nq,\xff\n", "a.csv", "line 2: not text in UTF-8"),
    ("question,solution\nq,s\n".encode("utf-16"), "a.csv", "line 1: "),
    ('{"question": ' + "[" * 100_000, "a.jsonl", "line 1: JSON that is too large to read"),
    ('{"question": ' + "9" * 5_000 + "}", "a.jsonl", "line 1: JSON that is too large to read"),
]
FILES = [case for _, case in read_lines(Path(__file__).with_name("dataset_files.jsonl"))]
FILES += [{"content": content, "name": name, "error": error} for content, name, error in LARGE]


def rows_of(folder: Path, content: str | bytes, name: str) -> list[Row]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_rows(path)


@pytest.mark.parametrize("case", FILES, ids=range(1, len(FILES) + 1))
def test_each_file_is_read_or_refused(tmp_path: Path, case: dict[str, Any]) -> None:
    if "rows" in case:
        assert [list(astuple(row)) for row in rows_of(tmp_path, case["content"], case["name"])] == case["rows"]
        return
    with pytest.raises(UsageError) as caught:
        rows_of(tmp_path, case["content"], case["name"])
    message = str(caught.value)
    assert case["error"] in message
    assert case["name"] in message
    assert "\n" not in message
    assert len(message) < 600


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    for name, words in (("gone.csv", r"no file .*gone\.csv"), ("", "is a folder"), ("long" * 200, "cannot be read")):
        with pytest.raises(UsageError, match=words):
            read_rows(tmp_path / name)


lines = st.text(st.characters(codec="utf-8", exclude_characters="\r\0\\"), min_size=1)


@given(st.lists(st.tuples(lines.filter(str.strip), lines.filter(str.strip)), min_size=1, max_size=5))
def test_what_was_written_is_read(tmp_path_factory, pairs: list[tuple[str, str]]) -> None:
    folder = tmp_path_factory.getbasetemp()
    text = io.StringIO()
    csv.writer(text).writerows([("question", "solution"), *pairs])
    jsonl = "".join(json.dumps({"prompt": q, "response": s}) + "\n" for q, s in pairs)
    for name, content in (("rows.csv", text.getvalue()), ("rows.jsonl", jsonl), ("rows", jsonl)):
        found = [(row.question, row.solution, row.text, row.gold) for row in rows_of(folder, content, name)]
        assert found == [(question, solution, solution, None) for question, solution in pairs]


# Escaped text.

CHUNKS = [
    *("$$", "\n", "\n\n", "Step 1: ", " x = 3 ", "\nTherefore", "\nnow", '"', ",", "naïve ²", "t"),
    *(r"\frac{1}{2}", r" \times ", r" \neq ", r"$\nu$", r"\\", r"\{", r"\nabla f"),
]
texts = st.lists(st.sampled_from(CHUNKS), min_size=1, max_size=12).map("".join).filter(lambda text: "\n" in text)


@given(texts)
def test_an_escaped_text_comes_back_whole(text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    assert is_escaped(escaped)
    assert unescaped(escaped) == text
    assert not is_escaped(text)


@pytest.mark.parametrize("text", [r"x \neq 3", r"$\nu = 5$", r"\nabla f, \not\in, \notin, \norm{x}", r"a \\nb", "no"])
def test_commands_are_no_escapes(text: str) -> None:
    assert not is_escaped(text)
    assert is_escaped(text + r"\nThen")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        # The first solution of the published validation file: single backslashes among doubled ones stay.
        (
            r"$$\nx = \frac{95}{5}\n$$\n\n3 \times 4 \neq 5, \text{so} \\boxed{19}\nend",
            "$$\nx = \\frac{95}{5}\n$$\n\n3 \\times 4 \\neq 5, \\text{so} \\boxed{19}\nend",
        ),
        # An unknown that makes a command with the newline before it.
        (r"$$\nu = 5\n$$\n\nu = 6.\ne = 7", "$$\nu = 5\n$$\n\nu = 6.\ne = 7"),
        (r"where $\nu$ is\nfive", "where $\\nu$ is\nfive"),
        (r"a\r\nb\t1", "a\nb\t1"),
    ],
)
def test_what_an_escape_means(text: str, meant: str) -> None:
    assert unescaped(text) == meant
