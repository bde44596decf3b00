"""What a result is about: the model, how it was trained, and the log."""

from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element

from sasrec.data.splits import Split
from sasrec.report.charts import Caption, Series, line_chart
from sasrec.report.elements import Content, facts, folded, section, table, tag
from sasrec.retrieval.recommender import Recommender
from sasrec.retrieval.scorers import Scorer
from sasrec.words import counted


def training_curves(history: Sequence[Mapping[str, float | None]]) -> Iterator[Element]:
    """Loss and validation NDCG@10 of every epoch, from a model's record."""
    judged = [result for result in history if result["ndcg"] is not None]  # not every epoch need be
    best = max(judged, key=lambda result: float(result["ndcg"] or 0.0), default=None)
    for name, key, results, note in (
        (
            "Training loss",
            "loss",
            history,
            "Mean loss of the steps, in nats. The rule marks the epoch whose weights were kept.",
        ),
        ("Validation NDCG@10", "ndcg", judged, "Whole catalogue ranked for every validation user."),
    ):
        caption = Caption(title=f"{name} by epoch", x="epoch", y=name, note=note)
        epochs, values = ([float(result[one] or 0.0) for result in results] for one in ("epoch", key))
        if results:
            yield line_chart(caption, epochs, [Series(name, values)], marked=None if best is None else best["epoch"])


def about_data(data: Split) -> Element:
    """The log in figures, and how it is split."""
    summary = data.log.summary()
    source = summary.source
    said: dict[str, Content] = {
        "log": f"{source.name} ({source.format})",
        "columns": ", ".join(f"{role} {name!r}" for role, name in source.columns.by_role().items()),
        "size": summary.size,
        "events a user": f"{summary.shortest:,} to {summary.longest:,}, median {summary.median:,g}, "
        f"mean {summary.mean:,.1f}",
        "repeats": f"{summary.repeats / summary.events:.1%} of the events are with an item the user had before",
        "rows": source.left_out,
        "split": data.rule,
        "parts": f"{counted(len(data.train.items), 'event')} to train on, {counted(len(data.valid), 'user')} to "
        f"validate, {len(data.test):,} to test",
        "content": tag("code", f"sha256 {summary.content_hash}"),
    }
    if summary.span is not None:
        said["time"] = f"{summary.span[0]} to {summary.span[1]}; {summary.ties:.1%} of steps are ties"
    return section("Data", facts(said), *(tag("p.note", note) for note in source.notes))


def extent(scorer: Scorer) -> str:
    """How much a scorer holds, in words."""
    tensors = scorer.to_parts()[1]
    if isinstance(graph := tensors.get("graph"), bytes):
        return f"{len(graph):,} bytes of ONNX"
    return f"{sum(tensor.numel() for tensor in tensors.values()):,} numbers"


def about_model(model: Recommender) -> Element:
    """Settings and record of a model."""
    config = model.scorer.to_parts()[0]
    record = model.record
    said: dict[str, Content] = {
        "kind": f"{model.kind}, {extent(model.scorer)}",
        "seen items": "left out of recommendations" if model.exclude_seen else "may be recommended again",
    }
    if "seed" in config:
        said["seed"] = str(config["seed"])
    if "best" in record:
        best = record["best"]
        said["validation"] = f"NDCG@10 {best['ndcg']:.4f}, HR@10 {best['hit_rate']:.4f}"
    if {"epochs", "steps", "seconds"} <= record.keys():
        epochs, steps = counted(record["epochs"], "epoch"), counted(record["steps"], "step")
        said["trained"] = f"{epochs} ({steps}) in {record['seconds']:,.1f} s"
    if "stopped" in record:
        said["ended"] = record["stopped"]
    if "epoch" in record.get("best", {}):
        said["best epoch"] = str(record["best"]["epoch"])
    if "refit" in record:
        said["refit"] = f"on train + validation, {counted(record['refit']['events'], 'event')}"
    made = ", ".join(f"{name} {record[name]}" for name in ("python", "torch", "processor") if name in record)
    if made:
        said["made with"] = made
    parts = [(part["name"], f"weight {part['weight']:.3g}") for part in config.get("parts", ())]
    rows = parts or [(name, str(value)) for name, value in config.items()]
    settings = table(["setting", "value"], [list(row) for row in rows])
    charts = training_curves(record["history"]) if record.get("history") else ()
    return section(
        "Model", facts(said), tag("div.charts", *charts), *([folded("All settings", settings)] if config else [])
    )
