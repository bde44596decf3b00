"""The tables of a run, in Markdown, as README and `docs/performance.md` show them."""

from collections.abc import Iterable, Sequence

from benchmarks.peers.systems import LOSSES, SYSTEMS, system_of
from benchmarks.report import Row, Spread

SAME = ("system", "loss", "epoch, CPU s", "times ours", "µs a target", "wall s", "top-10, CPU s", "peak MB", "NDCG@10")
PRESET = ("preset", "system", "sasrec, CPU s", "system, CPU s", "times ours", "peak MB, ours and theirs", "NDCG@10")
QUALITY = ("system", "settings", "CPU s to validation NDCG@10 of .060", "times ours", "epochs", "wall s", "peak MB")

CHOSEN = {
    "softmax": "the same as above",
    "soon": "learning rate 0.003, dropout 0.1; sasrec with 0.004, 1,024 shared negatives, an average of 100 steps and "
    "item vectors that begin as counts tell",
}
"""What is said of the settings that a network is trained to `systems.NDCG` with."""


def tables(rows: Sequence[Row]) -> str:
    """Every table that there are rows for, each under its heading."""
    of: dict[str, list[Row]] = {}
    for row in rows:
        of.setdefault(row.case.name.partition(".")[0], []).append(row)
    parts = {
        "Same settings, same work": _markdown(SAME, _same(of.get("same", []))),
        "Presets beside the systems that they are named after": _markdown(PRESET, _presets(of.get("preset", []))),
        "MovieLens-1M, length 200": _markdown(SAME, _same(of.get("ml1m", []))),
        "Training until it is good": _markdown(QUALITY, _quality(of.get("quality", []))),
    }
    return "\n\n".join(f"{heading}\n\n{part}" for heading, part in parts.items() if part)


def verdict(rows: Sequence[Row]) -> str:
    """Which presets cost more than their systems; empty where none was measured beside its own."""
    ratios = {ours.case.name.split(".")[1]: _ratio(ours, theirs) for ours, theirs in _pairs(rows)}
    known = {name: ratio for name, ratio in ratios.items() if ratio is not None}
    costly = [name for name, ratio in known.items() if ratio < 1]
    if not known:
        return ""
    which = f"cost more than their systems: {', '.join(costly)}" if costly else "none costs more than its system"
    return f"Of {len(ratios)} presets, {len(known)} were measured beside their systems; {which}."


def _same(rows: Sequence[Row]) -> Iterable[Sequence[str]]:
    own = {row.case.name.split(".")[1]: row for row in rows if system_of(row.case) is SYSTEMS["sasrec"]}
    for row in rows:
        loss = row.case.settings["config"]["loss"]
        head = [row.case.title, LOSSES[loss]]
        if row.fault:
            yield [*head, _gap(row)]
            continue
        found = row.spreads()
        yield [
            *head,
            f"{found['cpu_s']}{_share(found)}",
            _times(own.get(loss), row),
            f"{found['us_per_target'].median:,.0f}",
            str(found["wall_s"]),
            str(found["top10_cpu_s"]),
            f"{found['peak_mb'].median:,.0f}",
            f"{found['ndcg10'].median:.4f}",
        ]


def _presets(rows: Sequence[Row]) -> Iterable[Sequence[str]]:
    for ours, theirs in _pairs(rows):
        head = [f"`{ours.case.name.split('.')[1]}`", theirs.case.title]
        mine, other = ours.spreads(), theirs.spreads()
        cost = _gap(ours) if ours.fault else f"{mine['cpu_s']}{_share(mine)}"
        if theirs.fault or ours.fault:
            yield [*head, cost, _gap(theirs) if theirs.fault else f"{other['cpu_s']}{_share(other)}"]
            continue
        ratio = _ratio(ours, theirs)
        yield [
            *head,
            cost,
            f"{other['cpu_s']}{_share(other)}",
            f"{_times(ours, theirs)} {'pass' if ratio is not None and ratio >= 1 else 'FAIL'}",
            f"{mine['peak_mb'].median:,.0f}, {other['peak_mb'].median:,.0f}",
            f"{mine['ndcg10'].median:.4f}, {other['ndcg10'].median:.4f}",
        ]


def _quality(rows: Sequence[Row]) -> Iterable[Sequence[str]]:
    ours = {row.case.name.split(".")[1]: row for row in rows if system_of(row.case) is SYSTEMS["sasrec"]}
    for row in rows:
        kind = row.case.name.split(".")[1]
        head = [row.case.title, CHOSEN[kind]]
        if row.fault:
            yield [*head, _gap(row)]
            continue
        found = row.spreads()
        yield [
            *head,
            str(found["cpu_s"]),
            _times(ours.get(kind), row),
            str(found["epochs"]),
            str(found["wall_s"]),
            f"{found['peak_mb'].median:,.0f}",
        ]


def _pairs(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """A preset's own row and that of its system, where both were asked for."""
    of = {row.case.name: row for row in rows if row.case.name.startswith("preset.")}
    names = dict.fromkeys(name.split(".")[1] for name in of)
    pairs = [(of.get(f"preset.{name}.sasrec"), of.get(f"preset.{name}.{name}")) for name in names]
    return [(ours, theirs) for ours, theirs in pairs if ours and theirs]


def _ratio(ours: Row | None, theirs: Row) -> float | None:
    """How many times ours they cost; None where one of both is not known."""
    if ours is None or ours.fault or theirs.fault:
        return None
    return theirs.spreads()["cpu_s"].median / ours.spreads()["cpu_s"].median


def _times(ours: Row | None, theirs: Row) -> str:
    ratio = _ratio(ours, theirs)
    if ratio is None:
        return ""
    return f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def _share(found: dict[str, Spread]) -> str:
    """Which part of an epoch was timed, where it was less than all but the steps that warm up."""
    timed, whole = (int(found[name].median) for name in ("timed_steps", "epoch_steps"))
    return "" if timed >= 0.9 * whole else f", {timed} of {whole} steps timed"


def _gap(row: Row) -> str:
    return f"not measured: {row.fault}"


def _markdown(heading: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table, whose short lines end in empty cells; empty where there are no lines."""
    filled = [[cell.replace("|", "/") for cell in line] + [""] * (len(heading) - len(line)) for line in lines]
    if not filled:
        return ""
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, ["---"] * len(heading), *filled))
