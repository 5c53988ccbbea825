"""How far a run is, by what its files say."""

from crosspatch.settings_io import make_experiment
from crosspatch.storage.progress import progress
from crosspatch.storage.run import RunDirectory
from crosspatch.storage.shards import Shards


def test_the_time_left_is_what_the_shards_took_by_those_who_are_running(cli, tmp_path):
    run = RunDirectory.start(tmp_path / "run", make_experiment({}, ()))
    with run.stage("data"):
        pass
    shards = Shards(run.root, "patch")
    shards.put_plan({"shards": [{"prompts": [f"p{i}"]} for i in range(10)]})
    part = "scores/part-00000.parquet"
    for shard, files, seconds in ((0, {part: b"rows"}, 2.0), (1, {}, 4.0)):
        shards.keep(shard, files, {"seconds": seconds})
    shards.note_failure(2, 3, "[/b] it broke")
    with shards.claim(3), shards.claim(4):
        data, patch = progress(run)
        # A stage without shards has its state alone.
        assert (data.stage, data.state, data.done, data.waiting, data.seconds_left) == ("data", "done", 0, 0, None)
        assert (patch.done, patch.running, patch.failed, patch.waiting) == (2, 2, 1, 5)
        assert (patch.seconds, patch.seconds_left, len(patch.workers)) == (3.0, 3.0 * 8 / 2, 2)
    _, patch = progress(run)
    assert (patch.seconds_left, patch.damaged) == (3.0 * 8, ())
    assert [(f.shard, f.tries, f.error) for f in patch.failures] == [(2, 3, "[/b] it broke")]
    # The command prints and writes it.
    out = cli("status", run.root, "--json", tmp_path / "status.json", code=0).out
    assert "2 of 10" in out
    assert "shard 2 failed, 3 tries: [/b] it broke" in out
    assert '"failed": 1' in (tmp_path / "status.json").read_text()
    (run.root / part).write_bytes(b"row")
    assert "part-00000.parquet has changed since it was written" in progress(run)[-1].damaged[0]
    # A folder that is no run is refused.
    assert "is not a run directory" in cli("status", tmp_path, code=2).err
