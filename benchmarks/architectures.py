"""The engine that serves each causal-LM architecture of transformers, and how exact it is, on tiny random models.

`python benchmarks/architectures.py` keeps results in a file as they come, so an interrupted run goes on, and writes
the table into the docs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import multiprocessing
import os
import re
import threading
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}

import polars as pl
import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from crosspatch.analysis.patch import patch
from crosspatch.config import COMPONENTS, Component
from crosspatch.errors import CrosspatchError
from crosspatch.models.chat import PromptFormat
from crosspatch.models.components import find_components
from crosspatch.models.pair import ModelPair
from crosspatch.models.site import Site
from crosspatch.models.tiny import tiny_tokenizer
from crosspatch.patching.patches import Patch
from crosspatch.patching.quick_check import usable_engine
from tiny_architectures import child_of, tiny_architecture

PAGE = Path(__file__).parent.parent / "docs" / "architectures.md"
MARKS = ("<!-- table -->", "<!-- end of table -->")
COLUMNS = {
    "architecture": "architecture",
    "layers": "kinds of layers",
    "components": "components",
    "engine": "engine",
    "difference": "largest difference",
    "reason": "why",
}
QUESTION, TOKENS, LAYERS, HEAD = "Solve for x: 5x + 3 = 18", 3, (1, 2), 1
SECONDS = 120
_SAID = re.compile(r"the (\w+) engine cannot be used on this pair: (.{,120}).*; using the .* engine")
# A difference of ΔLs in logits that rounding explains; a larger one is an error of the engine.
EXACT = 1e-3


def main() -> None:
    """Check the architectures that have no result yet, and write the table into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("again", nargs="*", help="types of models to check although they have a result")
    parser.add_argument("--results", type=Path, default=Path("runs/architectures.jsonl"))
    options = parser.parse_args()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.touch()
    lines = options.results.read_text(encoding="utf-8").splitlines()
    known = {row["architecture"]: row for row in map(json.loads, lines) if row["engine"] != "not checked"}
    lock = threading.Lock()

    def check(name: str) -> None:
        row = in_a_process(name)
        with lock, options.results.open("a", encoding="utf-8") as file:
            known[name] = row
            print(*row.values(), sep=" | ", flush=True)
            file.write(json.dumps(row) + "\n")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(check, options.again or [name for name in model_types() if name not in known]))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    text = table([known[name] for name in sorted(known)])
    PAGE.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}", encoding="utf-8")


def model_types() -> list[str]:
    """Return the types of all causal-LM architectures; of types with the same language model only one."""
    names: dict[str, str] = {}
    for name in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, key=len):
        key, own = name, name
        with contextlib.suppress(Exception):
            config = CONFIG_MAPPING[name]().get_text_config(decoder=True)
            key, own = type(config).__name__, config.model_type.removesuffix("_text")
        names[key] = name if name == own else names.get(key, name)
    return sorted(names.values())


def in_a_process(name: str) -> dict[str, str]:
    """Check an architecture in a process with a time limit, so that no crash ends the run."""
    # The server has imported what takes time and has no threads, so its forks start fast and cannot deadlock.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["crosspatch.analysis.patch", "transformers.models.auto.modeling_auto"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, name))
    process.start()
    theirs.close()
    row = {"engine": "not checked", "reason": f"no result within {SECONDS} s"}
    with contextlib.suppress(EOFError):
        row = ours.recv() if ours.poll(SECONDS) else row
    process.kill()
    process.join()
    return {"architecture": name, **row}


def _send(connection: Connection, name: str) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity(logging.CRITICAL)
    connection.send(checked(name))


def checked(name: str) -> dict[str, str]:
    """Build a pair, and patch it with the engine that crosspatch chooses and with the published algorithm."""
    try:
        clean = tiny_architecture(name)
    except Exception as error:
        return {"engine": "not built", "reason": _line(error)}
    kinds = getattr(clean.config, "layer_types", None) or getattr(clean.config, "layers_block_type", None) or []
    facts = {"layers": ", ".join(dict.fromkeys(kind.removesuffix("_attention") for kind in kinds))}
    try:
        pair = ModelPair(clean, child_of(clean, scale=0.16), PromptFormat(tiny_tokenizer(), raw=True))
        found = components(pair)
        facts["components"] = "all" if len(found) == len(COMPONENTS) else ", ".join(found)
        return facts | compared(pair, found)
    except CrosspatchError as error:
        return facts | {"engine": "refused", "reason": _line(error)}
    except Exception as error:
        return facts | {"engine": "fails", "reason": _line(error)}


def components(pair: ModelPair) -> list[Component]:
    """Return the components that some block of the model has."""
    known = find_components(pair.clean)

    def has(component: Component) -> bool:
        head = HEAD if component == "head" else None
        return any(known.has(Site(layer, component, head)) for layer in range(pair.n_layers))

    return [component for component in COMPONENTS if component == "resid_post" or has(component)]


def compared(pair: ModelPair, found: Sequence[Component]) -> dict[str, str]:
    """Return the engine that crosspatch chooses, and its largest difference from the published algorithm."""
    known = find_components(pair.clean)
    sites = [Site(layer, component, HEAD if component == "head" else None) for layer in LAYERS for component in found]
    patches = [Patch((site,)) for site in sites if site.component == "resid_post" or known.has(site)]
    said = _Messages()
    logging.getLogger("crosspatch").addHandler(said)
    engine = usable_engine(pair, patches, "cached", 256)
    row = {"engine": engine, "reason": "; ".join(_SAID.sub(r"\1: \2", line) for line in said.lines)}
    if engine == "reference":
        return row
    fast, slow = (
        patch(pair, QUESTION, patches=patches, max_new_tokens=TOKENS, engine=one, quick_check=False).scores
        for one in (engine, "reference")
    )
    key = ["patch", "step", "token_id"]
    both = fast.join(slow, on=key, suffix="_slow")
    gap = both.select((pl.col("delta_patched") - pl.col("delta_patched_slow")).abs().max()).item()
    exact = fast.select(key).equals(slow.select(key)) and gap < EXACT
    return row | {"difference": f"{gap:.0e}" if exact else f"**WRONG** {gap}"}


class _Messages(logging.Handler):
    """Keeps what crosspatch says, such as why an engine cannot be used."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, CrosspatchError) else f"{type(error).__name__}: {text}"[:160]


def table(rows: Sequence[dict[str, str]]) -> str:
    """Return how many architectures each engine serves, and the Markdown table."""
    counts = ", ".join(f"{engine}: {count}" for engine, count in Counter(r["engine"] for r in rows).most_common())
    lines = [list(COLUMNS.values()), ["---"] * len(COLUMNS)]
    lines += [[row.get(key, "").replace("|", "\\|") for key in COLUMNS] for row in rows]
    rendered = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"transformers {transformers.__version__}, {len(rows)} architectures. {counts}.\n\n{rendered}"


if __name__ == "__main__":
    main()
