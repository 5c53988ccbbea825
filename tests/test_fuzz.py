"""Readers of other people's files, fed what no file should hold: a result, or an error of one line, never a crash.

Each reader gets 100 inputs; `CROSSPATCH_FUZZ=20000` asks for more, and takes others each time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crosspatch.data.problem import given_problems, read_prompts
from crosspatch.data.table import read_rows
from crosspatch.errors import CrosspatchError
from crosspatch.grading import judge
from crosspatch.grading.dataset_check import check_files
from crosspatch.grading.grading import Grade
from crosspatch.grading.judge import grade_file
from crosspatch.settings_io import load_experiment, make_experiment, shipped_experiments
from crosspatch.settings_io import settings as known_settings
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import SCHEMAS, SCORES
from experiment.runs import made_run

COUNT = int(os.environ.get("CROSSPATCH_FUZZ", "100"))
many = settings(
    max_examples=COUNT,
    deadline=None,
    # Few inputs are the same every time; many are others.
    derandomize=COUNT <= 100,
    database=None,
    suppress_health_check=list(HealthCheck),
)

# Words that mean something to some reader, and text that should mean nothing to any.
FIELDS = "question prompt_id solution answer text gold aliases key_points kind domain messages role user content prompt"
STRANGE = [
    "null",
    "../../x",
    "/etc/passwd",
    "a\0b",
    "\ud800",
    "1e999",
    "-0",
    "NaN",
    "!!python/object/apply:os.system [ls]",
]
MATHS = ["5x + 3 = 18", "x = 3", "\\frac{1}{2}", "$x$"]
WORDS = st.sampled_from([*FIELDS.split(), *STRANGE, *MATHS, "&a *a"])
TEXT = st.one_of(WORDS, st.text(max_size=20), st.characters())
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.sampled_from([10**400, -(10**18), 1e308, 2**63])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=6)
LINES = st.lists(st.one_of(OBJECTS.map(json.dumps), VALUES.map(json.dumps), TEXT), max_size=5).map("\n".join)
DEEP = st.sampled_from([3, 500, 5_000, 100_000]).flatmap(
    lambda n: st.sampled_from(["[", '{"a":', "- ", "(", "[[], "]).map(lambda c: c * n)
)
RAW = st.one_of(st.binary(max_size=200), TEXT.map(lambda s: s.encode("utf-8", "surrogatepass")), DEEP.map(str.encode))


def changed(content: bytes) -> st.SearchStrategy[bytes]:
    """A file that was cut short, had bits flipped, bytes put in, taken out or said twice."""
    if not content:
        return RAW
    places = st.integers(0, len(content) - 1)

    def flip(at: int, bit: int) -> bytes:
        return content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :]

    return st.one_of(
        places.map(lambda end: content[:end]),
        st.builds(flip, places, st.integers(0, 7)),
        st.builds(lambda at, new: content[:at] + new + content[at:], places, RAW),
        st.builds(lambda a, b: content[: min(a, b)] + content[max(a, b) :], places, places),
        st.builds(lambda a, b: content[:a] + content[b:], places, places),
    )


def survives(read: Callable[[], object]) -> bool:
    """Whether it was read; where not, the error is ours and of one line."""
    try:
        read()
    except CrosspatchError as error:
        said = str(error)
        assert said
        assert "\n" not in said
        assert len(said) < 3000
        return False
    return True


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


SHIPPED = [path.read_bytes() for path in shipped_experiments().values()]
KEYS = st.one_of(st.sampled_from([setting.key for setting in known_settings()]), TEXT)
TREES = st.dictionaries(
    st.one_of(st.sampled_from(["models", "data", "patch", "finetune", "seed", "controls"]), TEXT), VALUES
)


def as_yaml(tree: object) -> bytes:
    with suppress(yaml.YAMLError, ValueError):
        return encoded(yaml.safe_dump(tree))
    return b"{}"


@many
@given(content=st.one_of(RAW, TREES.map(as_yaml), st.sampled_from(SHIPPED).flatmap(changed)))
def test_experiment_files(folder, content):
    path = folder / "experiment.yaml"
    path.write_bytes(content)
    survives(lambda: load_experiment(str(path)))


@many
@given(
    key=KEYS,
    value=st.one_of(
        TEXT, VALUES.map(json.dumps), VALUES.map(as_yaml).map(lambda b: b.decode("utf-8", "replace")), DEEP
    ),
)
def test_settings_on_the_command_line(key, value):
    survives(lambda: make_experiment({}, [f"{key}={value}", str(value)][:1]))
    survives(lambda: make_experiment({}, [str(value)]))


PROMPTS = encoded('{"prompt_id": "a", "question": "Solve for x: 5x + 3 = 18"}\n{"prompt_id": 2, "question": "Why?"}\n')


@many
@given(content=st.one_of(RAW, LINES.map(encoded), changed(PROMPTS)))
def test_prompt_files(folder, content):
    path = folder / "prompts.jsonl"
    path.write_bytes(content)
    survives(lambda: read_prompts(path))


CSV = encoded('question,solution,answer\n"Solve for x: 5x + 3 = 18","Subtract 3: 5x = 15\nx = 3",3\nWhat is 2+2?,4,4\n')
JSONL = encoded('{"question": "2x = 4", "solution": "x = 2"}\n{"messages": [{"role": "user", "content": "Why?"}]}\n')
CELLS = st.lists(st.lists(TEXT, max_size=4).map(",".join), max_size=5).map("\n".join)


@many
@given(
    content=st.one_of(RAW, CELLS.map(encoded), CELLS.map(lambda s: encoded("question,answer\n" + s)), changed(CSV))
    | st.one_of(LINES.map(encoded), changed(JSONL)),
    ending=st.sampled_from([".csv", ".jsonl", ".json", ".txt"]),
)
def test_datasets(folder, content, ending):
    path = folder / f"dataset{ending}"
    path.write_bytes(content)
    survives(lambda: read_rows(path))
    survives(lambda: given_problems(path, "train"))


@many
@given(content=st.one_of(CELLS.map(lambda s: encoded("question,solution,answer\n" + s)), changed(CSV), changed(JSONL)))
def test_checks_of_datasets(folder, content):
    path = folder / "checked.csv"
    path.write_bytes(content)
    survives(lambda: check_files(path, [path]).to_dict())


class NoWorker:
    """In place of the process that grades, which has a test and a time limit of its own."""

    def __init__(self, seconds: float) -> None:
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def grade(self, text, gold, aliases, kind):
        assert all(isinstance(word, str) for word in (text, gold, *aliases))
        return Grade("unparsed", None)


GRADES = encoded(
    '{"text": "x = 3", "gold": "3", "aliases": ["three"], "kind": "math"}\n{"text": "a", "key_points": [["a"]]}\n'
)


@many
@given(content=st.one_of(RAW, LINES.map(encoded), changed(GRADES)))
def test_grade_files(folder, content):
    path = folder / "grades.jsonl"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "GradingWorker", NoWorker)
        survives(lambda: grade_file(path))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    return made_run(tmp_path_factory.mktemp("run") / "run", prompts=2)


def read_all(run: RunDirectory) -> None:
    """What commands and reports read of a run."""
    again = RunDirectory.existing(run.root)
    for schema in SCHEMAS:
        again.read(schema)
    again.asked(), again.domains(), again.vocabulary(), again.seed, again.n_layers, again.done("patch")
    again._repr_html_()


RECORDS = st.dictionaries(st.sampled_from(["settings", "stages", "models", "seeds", "versions", "started"]), VALUES)
FOREIGN = st.sampled_from(
    [
        pl.DataFrame({"a": [1]}),
        pl.DataFrame(schema={"prompt_id": pl.Int8}),
        SCORES.frame().drop("cts"),
        SCORES.frame().with_columns(pl.lit(1).alias("more")),
        SCORES.frame().cast({"step": pl.Float64}),
        pl.DataFrame({"prompt_id": [{"a": [1, 2]}]}),
    ]
)


@many
@given(data=st.data())
def test_the_record_of_a_run(run, data):
    before = run.record_file.read_bytes()
    record = json.loads(before)

    def with_value(path: tuple[str, ...], value: object) -> bytes:
        tree = json.loads(before)
        node = tree
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
        return json.dumps(tree).encode()

    paths = [(a,) for a in record] + [(a, b) for a in record if isinstance(record[a], dict) for b in record[a]]
    one_value = st.builds(with_value, st.sampled_from(paths), VALUES)
    content = data.draw(st.one_of(RAW, RECORDS.map(lambda r: json.dumps(r).encode()), changed(before), one_value))
    try:
        run.record_file.write_bytes(content)
        survives(lambda: read_all(run))
    finally:
        run.record_file.write_bytes(before)


@many
@given(data=st.data())
def test_the_tables_of_a_run(run, data):
    path = data.draw(
        st.sampled_from([run.path(SCORES, 0), run.root / "generations.parquet", run.root / "training.parquet"])
    )
    before = run.path(SCORES, 0).read_bytes() if path != run.path(SCORES, 0) else path.read_bytes()
    there = path.is_file()
    try:
        if data.draw(st.booleans()):
            path.write_bytes(data.draw(st.one_of(changed(before), RAW)))
        else:
            data.draw(FOREIGN).write_parquet(path)
        survives(lambda: read_all(run))
    finally:
        path.write_bytes(before) if there else path.unlink()


@many
@given(data=st.data())
def test_the_problems_of_a_run(run, data):
    path = run.problems_file("related")
    before = path.read_bytes()
    try:
        path.write_bytes(data.draw(st.one_of(changed(before), RAW, LINES.map(encoded))))
        survives(lambda: read_all(run))
    finally:
        path.write_bytes(before)


def test_what_is_whole_is_read(folder, run):
    """The inputs that are changed can be read as long as they are not."""
    for name, content, read in (
        ("prompts.jsonl", PROMPTS, read_prompts),
        ("dataset.csv", CSV, read_rows),
        ("dataset.jsonl", JSONL.splitlines()[0], read_rows),
        ("tiny.yaml", SHIPPED[0], lambda path: load_experiment(str(path))),
        ("grades.jsonl", GRADES, judge.read_lines),
    ):
        path = folder / name
        path.write_bytes(content)
        assert survives(lambda read=read, path=path: read(path)), name
    assert survives(lambda: read_all(run))


def test_a_crash_is_noticed():
    with pytest.raises(KeyError):
        survives(lambda: {}["a"])
    with pytest.raises(AssertionError):
        survives(lambda: (_ for _ in ()).throw(CrosspatchError("two\nlines")))
