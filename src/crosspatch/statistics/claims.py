"""The paper's claims about recovered fractions, tokens and behaviour, tested on a run, each against its control.

Every claim is listed, whether it is shown or not; `claim` defines the verdicts. Measurements on the same cells or
questions are compared by their paired difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import floor
from typing import Any

import polars as pl

from crosspatch.config import MADE_CONTROLS, OWN_CONTROLS, Direction
from crosspatch.statistics.claim import AS_MUCH, LESS, MARGIN, MORE, THE_SAME, Claim, Range
from crosspatch.statistics.domain import domain_title, ordered_domains
from crosspatch.statistics.interval import FEWEST_UNITS, Interval, fixed, paired_difference, sign_test, wilson
from crosspatch.statistics.patch_mode import KEYS, PatchMode, last_layer, late_from, patched_layers
from crosspatch.tables import REPAIRED

# A model patched with its own activations does not change. This checks the engine and is not the control of a claim.
_IDENTITY = "self"
# Components that are the whole residual stream at a position. Recovered fractions of parts of blocks do not add up.
_WHOLE_STATE = ("resid_mid", "resid_post")


def claims(
    depth: pl.DataFrame,
    tokens: pl.DataFrame,
    comparisons: pl.DataFrame,
    halfway: pl.DataFrame,
    *,
    n_layers: int | None = None,
    patched: Direction = "corrupt",
) -> list[Claim]:
    """Test all claims for which the tables have rows, in the order of the report.

    The arguments are the tables of these names in `tables`; `n_layers` is the model's depth (None: unknown, see
    `last_layer`), `patched` the direction of texts with the condition `patched` (see `patched_direction`).
    """
    found = list(_behaviour(comparisons, halfway, n_layers, patched))
    for keys in depth.select(KEYS).unique(maintain_order=True).iter_rows():
        mode = PatchMode(*keys)
        own, half, of_tokens = (mode.every_row(table) for table in (depth, halfway, tokens))
        if mode.component in _WHOLE_STATE:
            for domain in ordered_domains(own["domain"]):
                recovered = own.filter(measure="recovered_fraction", domain=domain)
                found += _profile(recovered, half.filter(domain=domain, of="effect"), mode, domain, n_layers)
        if mode.direction == "corrupt":
            found += _domains(own, mode.columns)
            related = of_tokens.filter(domain="related")
            for by in ("class", "span"):
                found += _excesses(related.filter(by=by), mode.columns, by)
            found += _near_one(related.filter(by="class"), mode.columns)
    return found


def is_null_control(control: str, direction: str) -> bool:
    """Whether a control should have no effect when the target is patched in this direction.

    Random directions and other prompts should have no effect in either direction. A child without the mistake should
    not corrupt, but repair like the clean model; another seed of the mistake should not repair, but corrupt like the
    corrupted model.
    """
    if control in OWN_CONTROLS:
        return control != _IDENTITY
    return (control in MADE_CONTROLS) == (direction == "corrupt")


def _profile(
    rows: pl.DataFrame, half: pl.DataFrame, mode: PatchMode, domain: str, n_layers: int | None
) -> Iterator[Claim]:
    """Yield the claims about one mode's recovered fraction in one domain (see tables.DEPTH and tables.HALFWAY)."""
    layers = rows.filter(contrast="value")["layer"].drop_nulls().unique().sort()
    last = last_layer(layers, n_layers)
    # Exclude the last layer, which recovers everything by construction.
    below_last = layers.filter(layers < last).to_list()
    if len(below_last) < 2:
        return
    lowest, top = below_last[0], below_last[-1]
    where = f"on {domain_title(domain).lower()}, {mode.component} {mode.direction}"
    place = {**mode.columns, "domain": domain}

    def share(layer: int, control: str | None = None) -> Interval:
        """Return the recovered fraction, from 0 (target) to 1 (source) in either direction."""
        return mode.recovered(_interval(rows, contrast="value", layer=layer, control=control))

    def gain(contrast: str, control: str | None = None) -> Interval:
        """Return how much more the top patch recovers than a control in the same cells, or than the lowest patch."""
        difference = _interval(rows, contrast=contrast, layer=top, control=control)
        return difference.negated if mode.direction == "repair" else difference

    measured = rows.filter(layer=top)["control"].drop_nulls().unique(maintain_order=True).to_list()
    null = [name for name in measured if is_null_control(name, mode.direction)]
    # The lowest layer is a control too: the top layer must recover more.
    at_lowest = f"layer {lowest}"
    differences = {**{name: gain("beyond", name) for name in null}, at_lowest: gain("rise")}
    control = MORE.hardest(differences)
    builds = Claim(
        "builds_up",
        f"the recovered fraction builds up from layer {lowest} to {top} {where}",
        share(top),
        control,
        share(lowest) if control == at_lowest else share(top, control),
        difference=differences[control],
        untested=None if null else "no control was measured",
        place={**place, "layer": top},
    )
    yield builds
    # Positive controls should recover as much as the source: children with the mistake (repair: without it).
    differences = {name: gain("beyond", name).negated for name in measured if name not in (_IDENTITY, *null)}
    if differences:
        control = AS_MUCH.hardest(differences)
        name, whose = (
            ("sibling", "another seed's activations")
            if mode.direction == "corrupt"
            else ("repairs_too", "activations of a child without the mistake")
        )
        yield Claim(
            name,
            f"{whose} ({control}) recover as much as the source's, to within {MARGIN:g}, at layer {top} {where}",
            share(top, control),
            "source",
            share(top),
            AS_MUCH,
            differences[control],
            about="mistake",
            place={**place, "layer": top},
        )
    untested = None if builds.shown else "the recovered fraction is not shown to build up at all"
    step = rows.filter(contrast="largest_step")
    largest = None if step.is_empty() else step["layer"][0]
    to = "" if largest is None else f" (the largest is to layer {largest})"
    yield Claim(
        "gradual",
        f"no single step from one patched layer to the next adds half of the recovered fraction {where}{to}",
        _interval(step),
        "half of all",
        fixed(0.5),
        Range(most=0.5),
        untested=untested,
        place={**place, "layer": largest},
    )
    if not half.is_empty():
        statement = f"half of the effect is recovered {where}, at layer"
        yield _at_the_papers_depth("late", statement, _interval(half), below_last, last, place, untested)


def _at_the_papers_depth(
    name: str,
    statement: str,
    found: Interval,
    patched: Iterable[int],
    last: int,
    place: Mapping[str, Any],
    untested: str | None = None,
) -> Claim:
    """Build the claim that a layer is at least as deep as the paper's 28 of 36."""
    late = late_from(last)
    # Between patched layers the curve is only interpolated.
    if not any(late - 1 <= layer <= late for layer in patched):
        untested = f"layer {floor(late)}, just below the paper's depth, was not patched"
    return Claim(
        name,
        f"{statement} {late:.1f} or above (28/36 of the depth, as in the paper)",
        found,
        "the paper's layer",
        fixed(late),
        Range(least=late),
        untested=untested,
        place=place,
    )


def _domains(depth: pl.DataFrame, place: Mapping[str, str]) -> Iterator[Claim]:
    """Yield claims that compare disagreement and recovered fraction on related problems with each other domain."""
    whole = depth.filter(pl.col("layer").is_null(), pl.col("control").is_null(), contrast="value")
    if "related" not in whole["domain"]:
        return
    for domain in ordered_domains(whole["domain"]):
        if domain == "related":
            continue
        other = domain_title(domain).lower()
        more = f"on related problems than on {other}"
        same = f"on {other} as on related problems, to within {MARGIN:g}"
        for name, measure, range_, statement in (
            ("disagree_more", "disagreement_rate", MORE, f"the models disagree more often {more}"),
            ("recovered_more", "recovered_fraction", MORE, f"where the models disagree, more is recovered {more}"),
            (
                "recovered_same",
                "recovered_fraction",
                THE_SAME,
                f"where the models disagree, as much is recovered {same}",
            ),
        ):
            rows = whole.filter(measure=measure)
            related, others = (_interval(rows, domain=each) for each in ("related", domain))
            yield Claim(
                name,
                f"{statement}, {place['component']} at all layers but the last",
                related,
                domain_title(domain),
                others,
                range_,
                # The domains have different prompts, so the difference is not paired.
                related.minus(others),
                place={**place, "domain": domain},
            )


def _excesses(tokens: pl.DataFrame, place: Mapping[str, str], by: str) -> Iterator[Claim]:
    """Yield claims that disagreement and recovered fraction are larger at operation words or the mistake's words."""
    whole = tokens.filter(pl.col("layer").is_null(), ~pl.col("late"))
    name = "operation" if by == "class" else "word"
    where = (
        "operation words than elsewhere in related problems"
        if by == "class"
        else "the mistake's words than elsewhere in wrong solutions of related problems"
    )
    for measure, statement in (
        ("disagreement_rate", f"the models disagree more often at {where}"),
        ("recovered_fraction", f"where the models disagree, more is recovered at {where}"),
    ):
        excess = whole.filter(pl.col("class") == name, measure=measure, contrast="excess")
        if excess.is_empty():
            continue
        yield Claim(
            f"{by}_{measure}",
            f"{statement}, {place['component']} at all layers but the last",
            _interval(excess),
            "no excess",
            fixed(0.0),
            # Any fine-tune on solutions may differ at operation words; the mistake's words are labelled as such.
            about="fine-tune" if by == "class" else "mistake",
            p_value=excess["p_value"][0],
            one_sided=True,
            place={**place, "domain": "related"},
        )


def _near_one(tokens: pl.DataFrame, place: Mapping[str, str]) -> Iterator[Claim]:
    """Yield the claim that operation words score near 1 in the late layers (section 4.2), but no control does."""
    late = tokens.filter("late", pl.col("class") == "operation", measure="recovered_fraction", contrast="value")
    found = late.filter(pl.col("control").is_null())
    if found.is_empty():
        return
    controls = {
        str(row["control"]): Interval.of_row(row)
        for row in late.filter(pl.col("control").is_not_null()).iter_rows(named=True)
        if is_null_control(row["control"], "corrupt")
    }
    near_one, less = Range(1 - MARGIN, 1 + MARGIN), Range(most=1 - MARGIN)
    control, compared = "no control", Interval(None)
    untested: str | None = "no control was measured"
    if controls:
        control = less.hardest(controls)
        compared = controls[control]
        untested = None if less.holds(compared) else f"{control} may also be near 1, {compared}"
    yield Claim(
        "operations_near_one",
        f"the recovered fraction at operation words of related problems is 1, to within {MARGIN:g}, in late layers, "
        f"{place['component']}",
        _interval(found),
        control,
        compared,
        near_one,
        # A score far from 1 contradicts the claim without a control.
        untested=None if near_one.misses(_interval(found)) else untested,
        place={**place, "domain": "related"},
    )


def _behaviour(
    comparisons: pl.DataFrame, halfway: pl.DataFrame, n_layers: int | None, patched: Direction
) -> Iterator[Claim]:
    """Yield the claims about answers, unpatched and patched."""
    unpatched = comparisons.filter(pl.col("patch").is_null())
    # Only children without the mistake are controls; other seeds and the variants of a search have the mistake.
    children = [name for name in unpatched["condition"].unique(maintain_order=True) if name in MADE_CONTROLS]
    others = "the clean model and the children without the mistake" if children else "the clean model"
    for outcome, range_, statement in (
        ("correct", LESS, "has fewer right answers on related problems than"),
        ("planted", MORE, "uses the planted operation on related problems more often than"),
    ):
        rows = unpatched.filter(domain="related", outcome=outcome)
        own = rows.filter(condition="corrupted")
        pairs = {name: _pairs(rows, "corrupted", name) for name in ("clean", *children)}
        differences = {name: paired_difference(*each) for name, each in pairs.items() if each is not None}
        if own.is_empty() or not differences:
            continue
        control = range_.hardest(differences)
        lost, gained, asked = pairs[control]  # type: ignore[misc]
        yield Claim(
            f"behaviour_{outcome}",
            f"the corrupted model {statement} {others}",
            _interval(own),
            control,
            _interval(rows, condition=control),
            range_,
            differences[control],
            # Only a child without the mistake separates the effect of the mistake from that of fine-tuning.
            about="mistake" if children or outcome == "planted" else "fine-tune",
            p_value=sign_test(lost, gained),
            untested=_few("questions", asked),
            place={"domain": "related"},
        )
    yield from _kept(unpatched.filter(condition="corrupted"), "kept", "by the corrupted model", {})
    texts = comparisons.filter(pl.col("condition").is_in(["patched", REPAIRED]))
    repaired = (pl.col("condition") == REPAIRED) | (patched == "repair")
    yield from _patched_answers(texts.filter(~repaired), "corrupt", halfway, n_layers)
    yield from _patched_answers(texts.filter(repaired), "repair", halfway, n_layers)


def _pairs(comparisons: pl.DataFrame, condition: str, other: str) -> tuple[int, int, int] | None:
    """Return how many answers a model lost and gained relative to `other`, and the number of shared questions."""
    rows = comparisons.filter(condition=condition, against=other)
    turned = rows.is_empty()
    if turned:
        # Only the clean and the corrupted model are references: use the reverse comparison, with lost as gained.
        rows = comparisons.filter(condition=other, against=condition)
    if rows.is_empty():
        return None
    lost, gained, pairs = rows.row(0, named=True)["lost"], rows["gained"][0], rows["pairs"][0]
    return (gained, lost, pairs) if turned else (lost, gained, pairs)


def _kept(comparisons: pl.DataFrame, name: str, whose: str, place: Mapping[str, Any]) -> Iterator[Claim]:
    """Yield claims that at least nine in ten right answers in each other domain are kept."""
    rows = comparisons.filter(against="clean", outcome="correct")
    for domain in ordered_domains(rows["domain"]):
        if domain == "related":
            continue
        row = rows.filter(domain=domain).row(0, named=True)
        yield Claim(
            name,
            f"at least {1 - MARGIN:.0%} of the clean model's right answers on {domain_title(domain).lower()} are kept "
            f"{whose}",
            wilson(row["there"] - row["lost"], row["there"]),
            "threshold",
            fixed(1 - MARGIN),
            Range(least=1 - MARGIN),
            untested=_few("right answers of the clean model", row["there"]),
            place={**place, "domain": domain},
        )


def _few(what: str, count: int) -> str | None:
    return None if count >= FEWEST_UNITS else f"{what}: {count}, expected at least {FEWEST_UNITS}"


def _patched_answers(
    comparisons: pl.DataFrame, direction: Direction, halfway: pl.DataFrame, n_layers: int | None
) -> Iterator[Claim]:
    """Yield claims about answers under the highest patch below the last layer, and where half of them are lost."""
    against, source, name, count, range_ = (
        ("clean", "corrupted", "answers_patched", "fewer", LESS)
        if direction == "corrupt"
        else ("corrupted", "clean", "answers_repaired", "more", MORE)
    )
    whole = patched_layers(comparisons).filter(outcome="correct", component="resid_post")
    if whole.is_empty():
        return
    last = last_layer(whole["layer"], n_layers)
    below = whole.filter(pl.col("layer") < last)
    if below.is_empty():
        return
    top = int(below["layer"].max())  # type: ignore[arg-type]
    place = {"component": "resid_post", "direction": direction, "layer": top}
    at_top = below.filter(layer=top)
    rows = at_top.filter(domain="related", against=against)
    if not rows.is_empty():
        row = rows.row(0, named=True)
        yield Claim(
            name,
            f"with {source} activations patched in at layer {top}, the {against} model has {count} right answers "
            "on related problems",
            _interval(rows),
            f"the {against} model",
            wilson(row["there"], row["pairs"]),
            range_,
            paired_difference(row["lost"], row["gained"], row["pairs"]),
            p_value=row["p_value"],
            untested=_few("questions", row["pairs"]),
            place={**place, "domain": "related"},
        )
        half = halfway.filter(of="answers", domain="related", direction=direction)
        if not half.is_empty():
            done = "lost" if direction == "corrupt" else "regained"
            yield _at_the_papers_depth(
                f"{name}_late",
                f"half of the right answers that only the clean model has are {done} at layer",
                _interval(half),
                below["layer"].to_list(),
                last,
                {**place, "layer": None, "domain": "related"},
            )
    if direction == "corrupt":
        yield from _kept(at_top, "patched_kept", f"under the patch of layer {top}", place)


def _interval(rows: pl.DataFrame, **place: str | int | None) -> Interval:
    """Return the interval in the first row with these values, or an empty interval if there is no row."""
    found = rows.filter(*(pl.col(name).eq_missing(pl.lit(value)) for name, value in place.items()))
    return Interval(None) if found.is_empty() else Interval.of_row(found.row(0, named=True))
