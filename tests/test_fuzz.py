"""Readers of users' files get malformed input: each returns a result or raises an error of one line, and none crashes.

Each reader gets 100 inputs; `CROSSPATCH_FUZZ=20000` asks for more, which differ in each run.
"""

import io
import json
import os
import re
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace

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
    # Few inputs are the same every time; many are others.
    derandomize=COUNT <= 100,
    database=None,
    suppress_health_check=list(HealthCheck),
)

# Words that some reader knows, and text that none knows.
FIELDS = "question prompt_id solution answer text gold aliases key_points kind domain messages role user content prompt"
STRANGE = ["null", "../../x", "/etc/passwd", "a\0b", "\ud800", "1e999", "-0", "NaN"]
MATHS = ["5x + 3 = 18", "x = 3", "\\frac{1}{2}", "$x$"]
WORDS = st.sampled_from([*FIELDS.split(), *STRANGE, *MATHS, "&a *a", "!!python/object/apply:os.system [ls]"])
TEXT = st.one_of(WORDS, st.text(max_size=20), st.characters())
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, -(10**18), 1e308, 2**63]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=8,
)
LINE = st.one_of(st.dictionaries(TEXT, VALUES, max_size=6).map(json.dumps), VALUES.map(json.dumps), TEXT)


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def deep(*depths: int) -> st.SearchStrategy[str]:
    openings = st.sampled_from(["[", '{"a":', "- ", "(", "[[], "])
    return st.builds(lambda opening, depth: opening * depth, openings, st.sampled_from(depths))


LINES = st.lists(LINE, max_size=5).map(lambda lines: encoded("\n".join(lines)))
# The loader of YAML has enough of 500 brackets, and takes a second for thousands.
DEEP_YAML = deep(3, 500)
RAW, RAW_YAML = (
    st.one_of(st.binary(max_size=200), TEXT.map(encoded), nested.map(encoded))
    for nested in (deep(3, 500, 5_000, 100_000), DEEP_YAML)
)


@st.composite
def changed(draw: st.DrawFn, content: bytes, inserted: st.SearchStrategy[bytes] = RAW) -> bytes:
    """A file that was truncated, or in which a bit was flipped or bytes were inserted, removed or repeated."""
    start = draw(st.integers(0, len(content) - 1))
    flipped = bytes([content[start] ^ (1 << draw(st.integers(0, 7)))])
    end = draw(st.one_of(st.sampled_from([start, start + 1, len(content)]), st.integers(0, len(content))))
    return content[:start] + draw(st.one_of(st.sampled_from([b"", flipped]), inserted)) + content[end:]


def survives(read: Callable[[], object]) -> None:
    """Read; an error may be a CrosspatchError of one line."""
    try:
        read()
    except CrosspatchError as error:
        said = str(error)
        assert re.fullmatch(".{1,2999}", said)


SHIPPED = [path.read_bytes() for path in shipped_experiments().values()]
GROUPS = st.sampled_from(["models", "data", "patch", "finetune", "seed", "controls"])


def as_yaml(tree: object) -> bytes:
    with suppress(yaml.YAMLError, ValueError):
        return encoded(yaml.safe_dump(tree))
    return b"{}"


@many
@given(
    key=st.one_of(st.sampled_from([setting.key for setting in known_settings()]), TEXT),
    value=st.one_of(TEXT, VALUES.map(json.dumps), VALUES.map(as_yaml).map(bytes.decode), DEEP_YAML),
)
def test_settings_on_the_command_line(key, value):
    survives(lambda: make_experiment({}, [f"{key}={value}"]))
    survives(lambda: make_experiment({}, [value]))


def graded(path: Path) -> object:
    def grade(text, gold, aliases, kind):
        assert all(isinstance(word, str) for word in (text, gold, *aliases))
        return Grade("unparsed", None, "time limit")

    with pytest.MonkeyPatch.context() as patch:
        # The process that grades has its own test and a time limit.
        patch.setattr(judge, "GradingWorker", lambda seconds: nullcontext(SimpleNamespace(grade=grade)))
        return grade_file(path)


PROMPTS = encoded('{"prompt_id": "a", "question": "Solve for x: 5x + 3 = 18"}\n{"prompt_id": 2, "question": "Why?"}\n')
CSV = encoded('question,solution,answer\n"Solve for x: 5x + 3 = 18","Subtract 3: 5x = 15\nx = 3",3\nWhat is 2+2?,4,4\n')
JSONL = encoded('{"question": "2x = 4", "solution": "x = 2"}\n{"messages": [{"role": "user", "content": "Why?"}]}\n')
GRADES = encoded(
    '{"text": "x = 3", "gold": "3", "aliases": ["three"], "kind": "math"}\n{"text": "a", "key_points": [["a"]]}\n'
)
CELLS = st.lists(st.lists(TEXT, max_size=4).map(",".join), max_size=5).map("\n".join)
TABLES = CELLS.map(lambda cells: encoded("question,answer\n" + cells))
DATASETS = st.one_of(RAW, CELLS.map(encoded), TABLES, changed(CSV), LINES, changed(JSONL))


def read_dataset(path: Path) -> object:
    survives(lambda: given_problems(path, "train"))
    return read_rows(path)


# A file's name: its reader, a content that is read, and contents to try.
READERS: dict[str, tuple[Callable[[Path], object], bytes, st.SearchStrategy[bytes]]] = {
    "experiment.yaml": (
        lambda path: load_experiment(str(path)),
        SHIPPED[0],
        st.one_of(
            RAW_YAML,
            st.dictionaries(st.one_of(GROUPS, TEXT), VALUES).map(as_yaml),
            st.sampled_from(SHIPPED).flatmap(lambda content: changed(content, RAW_YAML)),
        ),
    ),
    "prompts.jsonl": (read_prompts, PROMPTS, st.one_of(RAW, LINES, changed(PROMPTS))),
    "dataset.csv": (read_dataset, CSV, DATASETS),
    "dataset.jsonl": (read_dataset, JSONL.splitlines()[0], DATASETS),
    "dataset.json": (read_dataset, JSONL.splitlines()[0], DATASETS),
    "dataset.txt": (read_dataset, CSV, DATASETS),
    "checked.csv": (
        lambda path: check_files(path, [path]).to_dict(),
        CSV,
        st.one_of(TABLES, changed(CSV), changed(JSONL)),
    ),
    "grades.jsonl": (graded, GRADES, st.one_of(RAW, LINES, changed(GRADES))),
}


@pytest.mark.parametrize("name", READERS)
@many
@given(data=st.data())
def test_files(tmp_path_factory, name, data):
    read, _, contents = READERS[name]
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data.draw(contents))
    survives(lambda: read(path))


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
FOREIGN = [
    pl.DataFrame({"a": [1]}),
    pl.DataFrame(schema={"prompt_id": pl.Int8}),
    SCORES.frame().drop("cts"),
    SCORES.frame().with_columns(pl.lit(1).alias("more")),
    SCORES.frame().cast({"step": pl.Float64}),
    pl.DataFrame({"prompt_id": [{"a": [1, 2]}]}),
]


def changed_record(before: bytes) -> st.SearchStrategy[dict[str, object]]:
    """A record in which one value is another."""
    record = json.loads(before)
    inner = [(key, name) for key, value in record.items() if isinstance(value, dict) for name in value]
    return st.one_of(
        st.builds(lambda key, value: {**record, key: value}, st.sampled_from(list(record)), VALUES),
        st.builds(lambda at, value: {**record, at[0]: {**record[at[0]], at[1]: value}}, st.sampled_from(inner), VALUES),
    )


def as_parquet(table: pl.DataFrame) -> bytes:
    table.write_parquet(buffer := io.BytesIO())
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["record", "scores", "generations", "training", "problems"])
@many
@given(data=st.data())
def test_a_run(run, name, data):
    scores = run.path(SCORES, 0)
    path = {"record": run.record_file, "scores": scores, "problems": run.problems_file("related")}.get(name)
    path = path or run.root / f"{name}.parquet"
    before = path.read_bytes() if path.is_file() else None
    # Files that the run does not have are tried with the content of another table.
    contents = [RAW, changed(before or scores.read_bytes())]
    if name == "record":
        contents.append(st.one_of(RECORDS, changed_record(before)).map(json.dumps).map(str.encode))
    else:
        contents.append(LINES if name == "problems" else st.sampled_from(FOREIGN).map(as_parquet))
    try:
        path.write_bytes(data.draw(st.one_of(contents)))
        survives(lambda: read_all(run))
    finally:
        path.write_bytes(before) if before is not None else path.unlink()


def test_what_is_whole_is_read(tmp_path, run):
    for name, (read, whole, _) in READERS.items():
        path = tmp_path / name
        path.write_bytes(whole)
        read(path)
    read_all(run)


def test_a_crash_is_noticed():
    with pytest.raises(KeyError):
        survives(lambda: {}["a"])
    with pytest.raises(AssertionError):
        survives(lambda: (_ for _ in ()).throw(CrosspatchError("two\nlines")))
