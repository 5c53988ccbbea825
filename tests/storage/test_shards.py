"""Shards: what is kept is whole or noticed, what is claimed is one process's, what failed is counted."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crosspatch.errors import CrosspatchError
from crosspatch.storage.shards import Shards


@pytest.fixture
def shards(tmp_path) -> Shards:
    made = Shards(tmp_path, "patch")
    made.put_plan({"shards": [{"prompts": [f"p{i}"]} for i in range(3)]})
    return made


def test_a_shard_is_left_until_it_is_kept_a_claim_is_one_processs_and_failures_are_counted(shards):
    assert shards.left() == [0, 1, 2]
    shards.keep(1, {"scores/part-00001.parquet": b"rows"}, {"seconds": 2.0})
    assert (shards.left(), shards.record(1)["seconds"]) == ([0, 2], 2.0)
    with shards.claim(0) as first, shards.claim(0) as second, shards.claim(2) as other:
        assert (first, second, other) == (True, False, True)
        assert [shards.state(i) for i in range(3)] == ["running", "done", "running"]
        assert shards.worker(0) is not None
    assert [shards.state(i) for i in range(3)] == ["waiting", "done", "waiting"]
    shards.forget(1)
    assert shards.left() == [0, 1, 2]
    other = Shards(shards.root, "not planned yet")
    assert (other.planned, len(other), other.left(), other.damaged()) == (False, 0, [], {})
    shards.note_failure(0, 2, "it broke")
    assert (shards.state(0), shards.failure(0)["error"]) == ("failed", "it broke")
    assert [shards.tries(shard) for shard in (0, 1)] == [2, 0]
    shards.keep(0, {}, {})
    assert shards.tries(0) == 0
    shards.note_failure(1, 3, "it broke too")
    shards.forget_failures()
    assert shards.state(1) == "waiting"


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(min_size=1, max_size=200), data=st.data())
def test_any_flipped_bit_and_any_lost_byte_is_noticed(shards, content, data):
    path = shards.root / "scores/part-00002.parquet"
    shards.keep(2, {"scores/part-00002.parquet": content}, {})
    assert shards.damaged() == {}
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    short = content[: data.draw(st.integers(0, len(content) - 1))]
    for harmed in (bytes(flipped), short, content + b"\0"):
        path.write_bytes(harmed)
        assert list(shards.damaged()) == [2]
    path.unlink()
    assert shards.damaged() == {2: f"{path} is missing"}


def test_a_record_that_cannot_be_read_is_damage_too(shards):
    shards.keep(0, {}, {})
    for content in ("", "{", "[]", '{"files": 3}', "{}"):
        (shards.folder / "00000.json").write_text(content)
        assert list(shards.damaged()) == [0]
    (shards.folder / "plan.json").write_text("{")
    with pytest.raises(CrosspatchError, match=r"plan\.json cannot be read"):
        shards.left()


def test_files_are_kept_before_the_shard_is_done(shards, monkeypatch):
    monkeypatch.setattr(json, "dumps", lambda *_, **__: (_ for _ in ()).throw(OSError("no room")))
    with pytest.raises(OSError, match="no room"):
        shards.keep(0, {"scores/part-00000.parquet": b"rows"}, {})
    assert not shards.done(0)
    assert (shards.root / "scores/part-00000.parquet").read_bytes() == b"rows"
    assert not list(shards.folder.glob(".*partial"))
