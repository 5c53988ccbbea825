r"""Every usual file of questions is read, and others are refused with their line; escapes are undone."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspatch.data.escaped_text import is_escaped, unescaped
from crosspatch.data.table import Row, read_rows
from crosspatch.errors import UsageError


def rows_of(folder: Path, content: str | bytes, name: str = "rows.csv") -> list[Row]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_rows(path)


def fields(rows: list[Row]) -> list[tuple[str, str | None, str | None]]:
    return [(row.question, row.solution, row.answer) for row in rows]


def refusal(folder: Path, content: str | bytes, name: str = "rows.csv") -> str:
    with pytest.raises(UsageError) as caught:
        rows_of(folder, content, name)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    assert name in message
    return message


def test_an_empty_solution_beside_an_answer_is_a_question_with_its_answer(tmp_path: Path) -> None:
    # So a suite written as CSV can be read again.
    assert fields(rows_of(tmp_path, "question,solution,answer\nWho?,,Ada\n")) == [("Who?", None, "Ada")]


def test_the_published_oddities(tmp_path: Path) -> None:
    headed = (
        "question,answer\n"
        "What is water?,H₂O\n"
        'How many?,"7"\n'
        'Who wrote "Romeo and Juliet"?,William Shakespeare\n'
        "Hello! I can fulfill your one wish.\n"
        '"If you were ruler, what would you do?"\n'
        "I’m last"
    )
    assert fields(rows_of(tmp_path, headed)) == [
        ("What is water?", None, "H₂O"),
        ("How many?", None, "7"),
        ('Who wrote "Romeo and Juliet"?', None, "William Shakespeare"),
        ("Hello! I can fulfill your one wish.", None, None),
        ("If you were ruler, what would you do?", None, None),
        ("I’m last", None, None),
    ]
    bare = 'Find the derivative of f(x) = 3x²,f\'(x) = 6x\n"Midpoint of (2,3) and (6,7)?","(4, 5)"'
    assert fields(rows_of(tmp_path, bare)) == [
        ("Find the derivative of f(x) = 3x²", None, "f'(x) = 6x"),
        ("Midpoint of (2,3) and (6,7)?", None, "(4, 5)"),
    ]


def test_escaped_text_is_read_as_meant(tmp_path: Path) -> None:
    escaped = r'5x = 95?,"$$\nx = \frac{95}{5}\n$$\n\n$ \\boxed{19} $"'
    content = f"question,solution\n{escaped}\n" + r"\\frac{x}{2} = 1?,$\\frac42$"
    assert fields(rows_of(tmp_path, content)) == [
        ("5x = 95?", "$$\nx = \\frac{95}{5}\n$$\n\n$ \\boxed{19} $", None),
        ("\\frac{x}{2} = 1?", "$\\frac42$", None),
    ]


def test_text_that_is_not_escaped_stays(tmp_path: Path) -> None:
    content = 'question,solution\nq 1,"$x \\neq 3, \\nu \\times \\frac12$\na \\\\ b"\nq 2,$a \\\\ b \\neq c$\n'
    assert [row.solution for row in rows_of(tmp_path, content)] == [
        "$x \\neq 3, \\nu \\times \\frac12$\na \\\\ b",
        "$a \\\\ b \\neq c$",
    ]


lines = st.text(st.characters(codec="utf-8", exclude_characters="\r\0\\"), min_size=1)


@given(st.lists(st.tuples(lines.filter(str.strip), lines.filter(str.strip)), min_size=1))
def test_what_was_written_is_read(tmp_path_factory, pairs: list[tuple[str, str]]) -> None:
    folder = tmp_path_factory.getbasetemp()
    text = io.StringIO()
    csv.writer(text).writerows([("question", "solution"), *pairs])
    assert [(row.question, row.solution) for row in rows_of(folder, text.getvalue())] == pairs
    jsonl = "".join(json.dumps({"prompt": q, "response": s}) + "\n" for q, s in pairs)
    assert [(row.question, row.solution) for row in rows_of(folder, jsonl, "rows.jsonl")] == pairs


@pytest.mark.parametrize("question", ["question", "Prompt", " PROBLEM ", "instruction", "input"])
@pytest.mark.parametrize("solution", ["solution", "Response", "completion", "output"])
@pytest.mark.parametrize("answer", ["answer", "gold", "Final Answer", "final-answer", "target"])
def test_names_of_columns(tmp_path: Path, question: str, solution: str, answer: str) -> None:
    expected = [("q", "s", "7")]
    assert fields(rows_of(tmp_path, f"id,{answer},{solution},{question}\n1,7,s,q\n")) == expected
    line = json.dumps({"id": 1, answer: 7, solution: "s", question: "q"})
    assert fields(rows_of(tmp_path, line, "rows.jsonl")) == expected


def test_what_is_checked_and_what_it_is_checked_against(tmp_path: Path) -> None:
    both, alone = rows_of(tmp_path, '{"question":"q","solution":"s","answer":"a"}\n{"question":"q","answer":"a"}', "a")
    assert (both.text, both.gold) == ("s", "a")
    assert (alone.text, alone.gold) == ("a", None)


def test_numbers_and_lines(tmp_path: Path) -> None:
    content = '\ufeffquestion,solution\r\n\r\n"one\r\nline",s\r\n\r\ntwo,s\r\n'
    rows = rows_of(tmp_path, content)
    assert [(row.number, row.line, row.question) for row in rows] == [(1, 3, "one\nline"), (2, 6, "two")]
    rows = rows_of(tmp_path, '\ufeff\n{"question":"a","answer":"1"}\r\n\n{"question":"b","answer":""}', "x.jsonl")
    assert [(row.number, row.line, row.answer) for row in rows] == [(1, 2, "1"), (2, 4, None)]


def test_chats(tmp_path: Path) -> None:
    system, user = {"role": "system", "content": "be brief"}, {"role": "user", "content": "q"}
    said = {"role": "assistant", "content": "s"}
    lines = [{"messages": [system, user, said]}, {"prompt": [system, user], "completion": [said]}]
    content = "\n".join(map(json.dumps, lines))
    assert fields(rows_of(tmp_path, content, "chat.jsonl")) == [("q", "s", None)] * 2
    assert "line 1" in refusal(tmp_path, '{"messages": ["q", "s"]}', "chat.jsonl")
    assert "solution is empty" in refusal(tmp_path, json.dumps({"messages": [user]}), "chat.jsonl")


def test_an_instruction_has_its_input(tmp_path: Path) -> None:
    content = '{"instruction": "Solve.", "input": "3x = 9", "output": "x = 3"}'
    assert fields(rows_of(tmp_path, content, "a.jsonl")) == [("Solve.\n3x = 9", "x = 3", None)]
    assert fields(rows_of(tmp_path, "instruction,input,output\nSolve.,3x = 9,x = 3\nSolve 2x = 4.,,x = 2")) == [
        ("Solve.\n3x = 9", "x = 3", None),
        ("Solve 2x = 4.", "x = 2", None),
    ]


def test_a_file_without_suffix_is_known_by_its_content(tmp_path: Path) -> None:
    assert fields(rows_of(tmp_path, '{"question": "q", "answer": "a"}', "plain")) == [("q", None, "a")]
    assert fields(rows_of(tmp_path, "question,answer\nq,a\n", "plain")) == [("q", None, "a")]


def test_halves_of_surrogate_pairs_are_replaced(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, '{"question": "\\ud800?", "answer": "\\ud83d\\ude00"}', "a.jsonl")
    assert (row.question, row.answer) == ("\ufffd?", "😀")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty"),
        ("question,solution\n", "has no rows"),
        ("\n\n", "has no rows"),
        ("foo,bar\n1,2\n", "line 1: found the columns foo, bar; expected a question (question, prompt, "),
        ("question\nq\n", "found the columns question; expected"),
        ("my text,answer\nq,a\n", "found the columns my text, answer; expected"),
        ("question,solution\nq,s\n ,s\n", "row 2 (line 3): the question is empty"),
        ("question,solution\nq,\n", "row 1 (line 2): the solution is empty"),
        ("question,solution\nq\n", "row 1 (line 2): the solution is empty"),
        ("question,solution\nq,a, b\n", "row 1 (line 2): 3 cells, expected 2; is a comma not in quotes?"),
        ('question,solution\nq,s\nq,"open\nq,s\n', "line 3: a quote is opened and not closed"),
        ('question,solution\nq,"' + "open\n" * 40_000, "line 2: not CSV (field larger than field limit"),
        ("question,solution\nq,s\rq,s\n", "line 2: not CSV"),
        ("question,solution\nq,a\0b\n", "line 2: has a NUL byte"),
        (b"question,solution\nq,\xff\n", "line 2: not text in UTF-8"),
        ("question,solution\nq,s\n".encode("utf-16"), "line 1: "),
        ("question,solution\nq," + "a" * 10_000_000, "line 2: longer than 10,000,000 bytes"),
        ("a" * 10_000_001, "line 1: longer than"),
    ],
)
def test_a_csv_that_is_none(tmp_path: Path, content: str | bytes, says: str) -> None:
    assert says in refusal(tmp_path, content)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 3: not JSON ("),
        ("[1]", "line 3: got a JSON array, expected one object a line"),
        ("3", "line 3: got a int, expected an object"),
        ('"text"', "line 3: got a str, expected an object"),
        ('{"question": ' + "[" * 100_000, "line 3: JSON that is too large to read"),
        ('{"question": ' + "9" * 5_000 + "}", "line 3: JSON that is too large to read"),
        ("{}", "line 3: found nothing; expected a question"),
        ('{"text": "q", "gold": "a"}', "line 3: found text, gold; expected a question"),
        ('{"question": "q"}', "line 3: found question; expected"),
        ('{"question": 7, "answer": "a"}', "row 2 (line 3): the question is of type int, expected text"),
        ('{"question": null, "answer": "a"}', "row 2 (line 3): the question is empty"),
        ('{"question": "q", "answer": [1]}', "row 2 (line 3): the answer is of type list, expected text"),
        ('{"question": "q", "answer": true}', "row 2 (line 3): the answer is of type bool, expected text"),
        ('{"question": "q", "solution": {}}', "row 2 (line 3): the solution is of type dict, expected text"),
        ('{"question": "q", "solution": " ", "answer": ""}', "row 2 (line 3): the solution is empty"),
        ('{"question": "q", "solution": null}', "row 2 (line 3): the solution is empty"),
    ],
)
def test_a_line_of_json_that_is_none(tmp_path: Path, line: str, says: str) -> None:
    good = '{"question": "q", "solution": "s"}\n\n'
    assert len(rows_of(tmp_path, good, "rows.jsonl")) == 1
    assert says in refusal(tmp_path, good + line, "rows.jsonl")


def test_a_question_may_have_no_solution_where_it_has_an_answer(tmp_path: Path) -> None:
    line = '{"question": "q", "solution": null, "answer": "a"}'
    assert fields(rows_of(tmp_path, line, "suite.jsonl")) == [("q", None, "a")]


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no file .*gone\.csv"):
        read_rows(tmp_path / "gone.csv")
    with pytest.raises(UsageError, match="is a folder"):
        read_rows(tmp_path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_rows(tmp_path / ("long" * 200))


# Escaped text.

CHUNKS = [
    "$$", "\n", "\n\n", "Step 1: ", " x = 3 ", "\nTherefore", "\nnow", r"\frac{1}{2}", r" \times ", r" \neq ", r"$\nu$",
    r"\\", r"\{", '"', ",", "naïve ²", "t", r"\nabla f",
]  # fmt: skip
texts = st.lists(st.sampled_from(CHUNKS), min_size=1, max_size=12).map("".join)


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


@given(texts.filter(lambda text: "\n" in text))
def test_an_escaped_text_comes_back_whole(text: str) -> None:
    assert is_escaped(escaped(text))
    assert unescaped(escaped(text)) == text


@given(texts.filter(lambda text: "\n" in text))
def test_a_text_with_newlines_is_not_escaped(text: str) -> None:
    assert not is_escaped(text)


@pytest.mark.parametrize("text", [r"x \neq 3", r"$\nu = 5$", r"\nabla f, \not\in, \notin, \norm{x}", r"a \\nb", "no"])
def test_commands_are_no_escapes(text: str) -> None:
    assert not is_escaped(text)
    assert is_escaped(text + r"\nThen")


def test_single_backslashes_among_doubled_ones_stay() -> None:
    # As the first solution of the published validation file has it.
    found = unescaped(r"$$\nx = \frac{95}{5}\n$$\n\n3 \times 4 \neq 5, \text{so} \\boxed{19}\nend")
    assert found == "$$\nx = \\frac{95}{5}\n$$\n\n3 \\times 4 \\neq 5, \\text{so} \\boxed{19}\nend"
    assert not {"\f", "\t"} & set(found)


def test_an_unknown_that_makes_a_command_with_the_newline_before_it() -> None:
    assert unescaped(r"$$\nu = 5\n$$\n\nu = 6.\ne = 7") == "$$\nu = 5\n$$\n\nu = 6.\ne = 7"
    assert unescaped(r"where $\nu$ is\nfive") == "where $\\nu$ is\nfive"


def test_carriage_returns_and_tabs() -> None:
    assert unescaped(r"a\r\nb\t1") == "a\nb\t1"
