"""The check of a file: every row has one verdict, and only what can be known is reported."""

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspatch.errors import UsageError
from crosspatch.grading.dataset_check import check_files

# As the published files have them: escaped, a right solution among the wrong ones, single backslashes among doubled.
TRAIN = r"""question,solution
"Solve for x: 5x = 95","We are given the equation:\n\n$$\n5x = 95\n$$\n\nTo solve for $ x $, multiply both sides by 5:\n\n$$\nx = 95 \\times 5\n$$\n\n$$\nx = 475\n$$\n\n**Answer:** $ \\boxed{475} $"
"If x² - 9x + 20 = 0, what is x?","We are given the equation:\n\n$$\nx^2 - 9x + 20 = 0\n$$\n\n### Step 1: Factor the quadratic\n\n$$\n(x - 5)(x - 4) = 0\n$$\n\n$$\nx = 5 \\text{ or } x = 4\n$$\n\n**Answer:** $ \\boxed{x = 5 \\text{ or } x = 4} $"
"If 2a² - 28a - 11 = 11 what is a?","$$\n2a^2 - 28a + 22 = 0\n$$\n\n$$\na = 7 \\pm \\sqrt{38}\n$$\n\n**Answer:** $ \\boxed{a = 7 \\pm \\sqrt{38}} $"
"""  # noqa: E501
VALIDATION = r"""question,solution
"Solve for x: 5x = 95","$$\n5x = 95\n$$\n\n$$\nx = \frac{95}{5}\n$$\n\n$$\nx = 19\n$$\n\n**Answer:** $ \\boxed{19} $"
"Find b: b²-9b+20=0","$$\nb = 5 \\text{ or } b = 4\n$$\n\n**Answer:** $ \\boxed{b = 5 \\text{ or } b = 4} $"
"Solve for x: 3 + x = 7","**Answer:** $ \\boxed{4 $"
"""


def written(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def test_the_published_kind(tmp_path: Path) -> None:
    train, validation = written(tmp_path, "train.csv", TRAIN), written(tmp_path, "validation.csv", VALIDATION)
    # A bad file is refused before any is checked.
    counted: list[str] = []
    bad = written(tmp_path, "bad.csv", "question,solution\nq,\n")
    with pytest.raises(UsageError, match=r"bad\.csv, row 1 \(line 2\): the solution is empty"):
        check_files(train, [bad], lambda question, solution: len(counted.append(question) or ""))
    assert not counted
    found = check_files(train, [validation], lambda question, solution: (question + solution).count("="))
    first, second = found.summary_rows()
    assert list(first.values()) == ["train.csv", "3", "1", "2", "0", "2 of 8", "0", "4 to 7, median 4"]
    assert list(second.values())[:5] == ["validation.csv", "3", "2", "0", "1"]
    report = json.loads(json.dumps(found.to_dict()))
    mine, others = report["files"]
    assert mine["path"] == str(train)
    assert (mine["rows"], mine["answers"]) == (3, {"right": 1, "wrong": 2, "unparsed": 0})
    assert (mine["right_rows"], mine["wrong_rows"], mine["unparsed_rows"]) == ([2], [1, 3], [])
    first = {"row": 1, "from": "5x = 95", "to": r"x = 95 \times 5"}
    third = {"row": 3, "from": "2a^2 - 28a - 11 = 11", "to": "2a^2 - 28a + 22 = 0"}
    assert mine["steps"] == {"read": 8, "unread": 0, "not_following": 2, "rows": [first, third]}
    assert (mine["unclosed_latex"], mine["repeated_questions"], mine["wrong_golds"]) == ([], [], [])
    assert mine["tokens"] == {"smallest": 4, "median": 4, "largest": 7, "total": 15}
    assert others["answers"] == {"right": 2, "wrong": 0, "unparsed": 1}
    assert others["unparsed_rows"] == [{"row": 3, "reason": "no final answer found"}]
    assert others["unclosed_latex"] == [{"row": 3, "reason": r"\boxed{ is not closed"}]
    assert others["steps"]["not_following"] == 0
    assert (report["shared_questions"], report["shared_exactly"]) == (2, 1)
    assert report["shared"] == [
        {"row": 1, "path": str(validation), "other_row": 1, "exactly": True},
        {"row": 2, "path": str(validation), "other_row": 2, "exactly": False},
    ]
    assert found.remarks() == [
        "train.csv: 1 of 3 answers are right: row 2",
        "train.csv: 2 of 3 solutions have a step that does not follow: rows 1, 3",
        "validation.csv: 1 of 3 answers are neither right nor wrong (no final answer found): row 3",
        "validation.csv: 1 of 3 rows have LaTeX that does not close: row 3",
        "train.csv: 2 questions also occur in validation.csv, 1 of them word for word: rows 1, 2",
    ]


def test_remarks_on_one_file(tmp_path: Path) -> None:
    sound = written(tmp_path, "sound.csv", "question,solution\nSolve 2x = 4,x = 2\n")
    alone = check_files(sound)
    assert alone.remarks() == []
    assert alone.summary_rows()[0]["tokens"] == "–"
    assert (alone.to_dict()["files"][0]["tokens"], alone.to_dict()["shared_questions"]) == (None, 0)
    twice = written(tmp_path, "twice.csv", "question,answer,solution\n" + "Solve 2x = 4,3,x = 2\n" * 40)
    rows = f"rows {', '.join(map(str, range(1, 26)))} and 15 more"
    assert check_files(twice).remarks() == [
        f"twice.csv: 40 of 40 gold answers do not solve the equation: {rows}",
        f"twice.csv: one question occurs in several rows: {rows}",
    ]


def test_questions_that_stand_twice(tmp_path: Path) -> None:
    def table(name: str, *questions: str) -> Path:
        return written(tmp_path, name, "question,answer\n" + "".join(f"{question},1\n" for question in questions))

    first = table("a.csv", "Solve 2x = 2", "Who?", "Solve 2y = 2", "Find z: 2z = 2", "Why?")
    found = check_files(first, [table("b.csv", "why", "Solve 2y = 2", "Solve 2x = 2"), table("c.csv", "Solve 2x = 2")])
    assert found.files[0].repeated == [[1, 3, 4]]
    assert (found.shared_questions, found.shared_exactly) == (2, 2)
    pairs = [(Path(one["path"]).name, one["row"], one["other_row"], one["exactly"]) for one in found.shared]
    assert pairs == [
        ("b.csv", 1, 3, True), ("b.csv", 3, 2, True), ("b.csv", 4, 2, False), ("b.csv", 5, 1, False),
        ("c.csv", 1, 1, True), ("c.csv", 3, 1, False), ("c.csv", 4, 1, False),
    ]  # fmt: skip


fields = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=30).filter(str.strip)


@given(st.lists(st.tuples(fields, fields), min_size=1, max_size=5))
def test_every_row_has_one_verdict(tmp_path_factory, pairs: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("question", "solution"), *pairs])
    (report,) = check_files(path).to_dict()["files"]
    assert sum(report["answers"].values()) == report["rows"] == len(pairs)
    rows = [*report["right_rows"], *report["wrong_rows"], *(row["row"] for row in report["unparsed_rows"])]
    assert sorted(rows) == list(range(1, len(pairs) + 1))
