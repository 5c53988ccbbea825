"""A stage without models, whose shards fail or kill their process. Workers import it from here."""

import logging
import os
import signal
from collections import Counter
from dataclasses import dataclass, field

from crosspatch.experiment.sharding import ShardedStage


@dataclass
class Letters(ShardedStage):
    """Shard i writes the i-th letter, raises the next error that is listed for it, or kills its process."""

    name = "patch"
    raising: dict[int, list[BaseException]] = field(default_factory=dict)
    deadly: tuple[int, ...] = ()
    calls: Counter = field(default_factory=Counter)
    collected: int = 0

    def plan(self):
        return {"shards": [{"prompts": [letter]} for letter in "abcde"], "deadly": list(self.deadly)}

    def do(self, shard):
        self.calls[shard] += 1
        if self.raising.get(shard):
            raise self.raising[shard].pop(0)
        # A worker knows the plan alone.
        if shard in self.shards.plan()["deadly"]:
            os.kill(os.getpid(), signal.SIGKILL)
        logging.getLogger("crosspatch.test").warning(f"computing {shard}")
        return {f"scores/part-{shard:05d}.parquet": "abcde"[shard].encode()}

    def collect(self):
        self.collected += 1

    @property
    def contents(self) -> str:
        return "".join(path.read_text() for path in sorted((self.context.directory.root / "scores").iterdir()))
