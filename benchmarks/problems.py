"""How many wrong solutions are made, proven and written a second, on one core, over all forms and mistakes."""

from __future__ import annotations

import time
from random import Random

from crosspatch.config import Data
from crosspatch.data.forms import FORMS
from crosspatch.data.splits import ProblemMaker

WANTED = 10_000


def problems_made() -> list[tuple[str, str]]:
    """Return what was made and how fast, in words."""
    pairs = [(form, mistake) for form in FORMS.values() for mistake in form.mistakes]
    each = WANTED // len(pairs) + 1
    made, start = 0, time.perf_counter()
    for form, mistake in pairs:
        maker = ProblemMaker(Data(mistake=mistake))
        made += len(maker.take("train", each, maker.worked((form,), Random(0)), wrong=True))
    seconds = time.perf_counter() - start
    return [
        ("wrong solutions made and proven", f"{made:,} in {seconds:.1f} s, {made / seconds:,.0f} a second on one core")
    ]


if __name__ == "__main__":
    for what, value in problems_made():
        print(f"{what}: {value}")
