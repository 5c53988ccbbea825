"""Compares verdicts with the test suite of math-verify: pairs of a gold and a predicted answer, equal or different.

The suite is that of the installed version. pip downloads its source distribution into a temporary folder, or
`--sdist FILE` reads one at hand. Each difference is printed with the settings of its test where these are not the
suite's usual ones: crosspatch has no such settings, and math-verify is called with its defaults.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from math_verify import parse, verify

from crosspatch.grading.grading_worker import GradingWorker

USUAL = {"match_types": '["latex", "expr"]', "precision": "6", "strict": "True", "allow_set_relation_comp": "False"}
_SETTING = re.compile(rf"\b({'|'.join(USUAL)})=(\[[^\]]*\]|\w+)")


@dataclass(frozen=True)
class Pair:
    """A row of the suite; `settings` are those of its test that are not the suite's usual ones."""

    file: str
    gold: str
    pred: str
    equal: bool
    settings: str


def main() -> None:
    """Grade all pairs, and print the counts and each difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sdist", type=Path, help="source distribution of math-verify; downloaded without it")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        with tarfile.open(options.sdist or downloaded(folder)) as archive:
            archive.extractall(folder, filter="data")
        (tests,) = Path(folder).glob("*/tests")
        pairs = list(suite(tests))
    with GradingWorker() as worker:
        grades = [worker.grade(pair.pred, pair.gold) for pair in pairs]
    plain = [verify(parse(pair.gold), parse(pair.pred)) for pair in pairs]
    print(f"{len(pairs)} pairs of the suite of math-verify {version('math-verify')}")
    print(f"crosspatch: {counts(pairs, [grade.verdict == 'correct' for grade in grades])}")
    print(f"math-verify with its defaults: {counts(pairs, plain)}\n\ncrosspatch's differences:")
    for pair, grade in zip(pairs, grades, strict=True):
        if pair.equal != (grade.verdict == "correct"):
            expected = "equal" if pair.equal else "different"
            print(
                f"{pair.file}: gold {short(pair.gold)}, pred {short(pair.pred)}, expected {expected}, "
                f"{grade.verdict} ({grade.rule}), extracted {short(grade.extracted)}, settings {pair.settings}"
            )


def downloaded(folder: str) -> Path:
    """Download the source distribution of the installed version."""
    wanted = ["--no-deps", "--no-binary", ":all:", f"math-verify=={version('math-verify')}"]
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *wanted, "--dest", folder], check=True)
    return next(Path(folder).glob("*.tar.gz"))


def suite(tests: Path) -> Iterator[Pair]:
    """The rows of the parametrized tests that have a gold and a prediction."""
    sys.path.insert(0, str(tests.parent))
    for file in sorted(tests.glob("test_*.py")):
        functions = inspect.getmembers(importlib.import_module(f"tests.{file.stem}"), inspect.isfunction)
        for test in [function for name, function in functions if name.startswith("test")]:
            # Settings as the test's call has them: a value, or the name of one of its parameters.
            called_with = dict(_SETTING.findall(inspect.getsource(test).rpartition("\ndef ")[2]))
            for mark in [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]:
                names = [name.strip() for name in mark.args[0].split(",")]
                for row in [dict(zip(names, values, strict=True)) for values in mark.args[1] if "gold" in names]:
                    used = {name: str(row.get(value, value)) for name, value in called_with.items()}
                    other = [f"{name}={value}" for name, value in used.items() if value != USUAL[name]]
                    equal = bool(row.get("expected", row.get("result")))
                    yield Pair(file.name, row["gold"], row["pred"], equal, ", ".join(other) or "usual")


def counts(pairs: list[Pair], verdicts: list[bool]) -> str:
    """How many verdicts are the suite's, and how many are wrong in each direction."""
    wrong = [said for pair, said in zip(pairs, verdicts, strict=True) if said != pair.equal]
    agree = len(pairs) - len(wrong)
    return (
        f"{agree} as the suite has it, {sum(wrong)} wrongly called correct, {len(wrong) - sum(wrong)} wrongly refused"
    )


def short(text: str | None) -> str:
    """A text on one line, without its middle if it is long."""
    return repr(text) if text is None or len(text) <= 160 else f"{text[:60]!r} … {text[-90:]!r}"


if __name__ == "__main__":
    main()
