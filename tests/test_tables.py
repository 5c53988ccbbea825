"""Tables: exactly the promised columns, written whole or not at all."""

import polars as pl
import pytest

from crosspatch.errors import CrosspatchError
from crosspatch.tables import GENERATIONS, SCHEMAS, SCORES, VOCABULARY
from score_cells import of_text

ROW = {"prompt_id": "a", "condition": "clean", **of_text(None), "text": "x = 3", "token_count": 4, "stop_reason": "eos"}


def test_the_contract_of_the_scores_and_that_an_empty_table_has_its_columns():
    expected = (
        "prompt_id, patch, component, layer, head, schedule, window, direction, persistence, step, position, "
        "token_id, token, clean_token_id, corrupted_token_id, delta_clean, delta_corrupted, delta_patched, cts, "
        "status, kl_clean, kl_patched, rank_corrupted"
    )
    assert list(SCORES.columns) == expected.split(", ")
    for schema in SCHEMAS:
        assert dict(schema.frame().schema) == pl.Schema(schema.dtypes)


def test_a_row_with_a_missing_or_foreign_column_is_refused():
    GENERATIONS.frame([ROW])
    with pytest.raises(ValueError, match=r"missing columns \['text'\]"):
        GENERATIONS.frame([{k: v for k, v in ROW.items() if k != "text"}])
    with pytest.raises(ValueError, match=r"unknown \['extra'\]"):
        GENERATIONS.frame([{**ROW, "extra": 1}])


def test_writing_and_reading(tmp_path):
    path = tmp_path / "g.parquet"
    assert GENERATIONS.read(path).is_empty()
    frame = GENERATIONS.frame([ROW])
    GENERATIONS.write(frame, path)
    assert GENERATIONS.read(path).equals(frame)
    assert [p.name for p in tmp_path.iterdir()] == ["g.parquet"]
    with pytest.raises(ValueError, match="for the table generations, expected"):
        GENERATIONS.write(SCORES.frame(), path)
    assert GENERATIONS.read(path).equals(frame)


def test_a_table_that_was_damaged_is_not_given_to_polars(tmp_path, monkeypatch):
    """Some damage makes polars end the whole process, so it is looked for before."""
    path = tmp_path / "scores.parquet"
    SCORES.write(SCORES.frame(), path)
    whole = path.read_bytes()
    # Others read it as any parquet file.
    assert pl.read_parquet(path).schema == pl.Schema(SCORES.dtypes)
    assert SCORES.read(path).is_empty()
    monkeypatch.setattr(pl, "read_parquet", lambda *_, **__: pytest.fail("polars was asked"))
    seal = whole.index(b"crosspatch-sha256:")
    harmed = [whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :] for at in range(0, len(whole), 11)]
    cut_short = [whole[:at] for at in range(0, len(whole), 97)]
    for content in [*harmed, *cut_short, whole[:seal] + whole[seal + 18 + 64 :]]:
        path.write_bytes(content)
        with pytest.raises(CrosspatchError, match="is damaged: its checksum is wrong"):
            SCORES.read(path)


def test_a_text_that_reads_like_a_seal_is_a_text(tmp_path):
    rows = [{"token_id": i, "token": text} for i, text in enumerate(["a", "crosspatch-sha256:" + "z" * 40, "b"])]
    frame = VOCABULARY.frame(rows)
    VOCABULARY.write(frame, path := tmp_path / "vocabulary.parquet")
    assert path.read_bytes().count(b"crosspatch-sha256:") > 1
    assert VOCABULARY.read(path).equals(frame)
