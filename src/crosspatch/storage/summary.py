"""The summary of a run: its statistics as tables, and its claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from crosspatch.config import Direction
from crosspatch.html_repr import HtmlRepr, Table
from crosspatch.statistics.answers import comparisons
from crosspatch.statistics.claim import Claim, claims_table
from crosspatch.statistics.claims import claims
from crosspatch.statistics.depth import depth_statistics
from crosspatch.statistics.halfway import halfway
from crosspatch.statistics.localisation import divergence_effects, site_effects
from crosspatch.statistics.patch_mode import patched_direction
from crosspatch.statistics.profile import word_statistics
from crosspatch.statistics.tokens import mistake_statistics, token_statistics
from crosspatch.storage.run import RunDirectory
from crosspatch.tables import (
    BEHAVIOUR,
    CLAIMS,
    CONTROLS,
    DIVERGENCES,
    LOCALISATION,
    MISTAKES,
    SCORES,
    STATISTICS,
    Schema,
)

_MEASURED = (SCORES, CONTROLS, MISTAKES, BEHAVIOUR, LOCALISATION, DIVERGENCES)


@dataclass(frozen=True)
class Summary:
    """The statistics of a run as tables (schemas in crosspatch.tables), and its claims; empty without measurements."""

    depth: pl.DataFrame
    halfway: pl.DataFrame
    tokens: pl.DataFrame
    words: pl.DataFrame
    comparisons: pl.DataFrame
    site_effects: pl.DataFrame
    divergence_effects: pl.DataFrame
    claims: list[Claim]
    # The direction of texts with the condition `patched`.
    patched: Direction = "corrupt"

    @classmethod
    def of(
        cls,
        domains: Mapping[str, str],
        *,
        scores: pl.DataFrame | None = None,
        controls: pl.DataFrame | None = None,
        mistakes: pl.DataFrame | None = None,
        behaviour: pl.DataFrame | None = None,
        localisation: pl.DataFrame | None = None,
        divergences: pl.DataFrame | None = None,
        texts: Mapping[int, str] | None = None,
        n_layers: int | None = None,
        seed: int = 0,
    ) -> Summary:
        """Compute the statistics from the tables of a run.

        `domains` maps prompt_id to domain, `texts` maps token ids to texts (None: generated tokens only). `n_layers` is
        the model's depth (None: unknown; the highest patched layer counts as the last), `seed` seeds bootstrap and
        permutations. Raises ValueError for a prompt that is not in `domains`.
        """
        given = (scores, controls, mistakes, behaviour, localisation, divergences)
        scores, controls, mistakes, behaviour, localisation, divergences = (
            schema.frame() if table is None else table for schema, table in zip(_MEASURED, given, strict=True)
        )
        depth = depth_statistics(scores, controls, domains, n_layers=n_layers, seed=seed)
        of_classes = token_statistics(scores, domains, controls=controls, texts=texts, n_layers=n_layers, seed=seed)
        tokens = pl.concat([of_classes, mistake_statistics(mistakes, domains, n_layers=n_layers, seed=seed)])
        patched, compared = patched_direction(scores), comparisons(behaviour)
        half = halfway(scores, behaviour, domains, n_layers=n_layers, patched=patched, seed=seed)
        return cls(
            depth,
            half,
            tokens,
            word_statistics(scores, domains, n_layers=n_layers),
            compared,
            site_effects(localisation, domains, seed=seed),
            divergence_effects(divergences, domains, seed=seed),
            claims(depth, tokens, compared, half, n_layers=n_layers, patched=patched),
            patched,
        )

    @classmethod
    def of_run(cls, directory: RunDirectory) -> Summary:
        """Compute the statistics of a run directory from the measurements it has so far."""
        return cls.of(
            directory.domains(),
            **{schema.name: directory.read(schema) for schema in _MEASURED},
            texts=directory.vocabulary(),
            n_layers=directory.n_layers,
            seed=directory.seed,
        )

    @property
    def tables(self) -> list[tuple[Schema, pl.DataFrame]]:
        """All tables, each with its schema."""
        claims = CLAIMS.frame(claim.row() for claim in self.claims)
        return [(schema, claims if schema is CLAIMS else getattr(self, schema.name)) for schema in STATISTICS]

    def _repr_html_(self) -> str:
        tables = Table(("table", "rows"), [(schema.name, f"{table.height:,}") for schema, table in self.tables])
        claims = [claims_table(claim.row() for claim in self.claims)] if self.claims else []
        return HtmlRepr("Summary", parts=[tables, *claims]).html

    def write(self, directory: RunDirectory) -> None:
        """Write all tables into the run directory."""
        for schema, table in self.tables:
            directory.write(schema, table)
