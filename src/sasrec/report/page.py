"""Results as pages: `write_page` makes the whole of one file from the sections of its kind."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from xml.etree.ElementTree import Element

from sasrec import __version__
from sasrec.data.splits import Split
from sasrec.data.vocab import Id
from sasrec.errors import ConfigError, DataError, check_kind
from sasrec.evaluation.protocol import Report, in_catalogue
from sasrec.files import as_path, durable_file
from sasrec.report.about import about_data, about_model
from sasrec.report.comparison import comparison_sections
from sasrec.report.diagnosis import diagnosis_sections
from sasrec.report.elements import document, tag
from sasrec.report.evaluation import evaluation_sections
from sasrec.retrieval.recommender import Recommender
from sasrec.studies.compare import Comparison
from sasrec.studies.diagnose import Diagnosis

# Nothing is loaded and nothing runs, whatever a title holds: the browser itself sees to it.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write_page(
    path: str | Path,
    result: Report | Comparison | Diagnosis,
    *,
    model: Recommender | None = None,
    data: Split | None = None,
    user: Id | None = None,
    titles: str | Path | None = None,
    replace: bool = False,
) -> None:
    """Write a result as one HTML file that opens offline, in light and dark, on a phone and on paper.

    Args:
        result: What `evaluate`, `compare` or `diagnose` gave.
        model: The model that was measured; adds its settings and how it was trained.
        data: The split it was measured on; adds the log and, to an evaluation, NDCG by history length and popularity
            and, with `model`, ten users.
        user: Raw id of a user who comes first among the ten, whom an evaluation with `model` and `data` shows.
        titles: A file of items with a column of titles, in any format of a log; titles then stand beside their ids.
        replace: Take the place of a file that is there already.

    Raises:
        ConfigError: `result` is none, or there is `user` or `titles` but nobody to show.
        OutputError: The path is taken, or cannot be written.
        DataError: `data` is not what `result` was made on, nothing of `user` is held out, or `titles` cannot be used.
        UnknownIdError: There is no such `user`.
    """
    if (user, titles) != (None, None) and (model is None or data is None or not isinstance(result, Report)):
        raise ConfigError("user, titles: are for users whom an evaluation shows; give model= and data= too, or neither")
    if model is not None and data is not None:
        data = in_catalogue(data, model)
    if model is not None and data is not None and not model.items.ids.equals(data.log.items.ids):
        raise DataError("data: its items are not those of the model; give the split that the model was evaluated on")
    log = data.log.source.name if data is not None else model.record.get("log") if model is not None else None
    about = [*([] if model is None else [about_model(model)]), *([] if data is None else [about_data(data)])]
    if isinstance(result, Report):
        what, sections = result.rows[0].model, evaluation_sections(result, model, data, user=user, titles=titles)
    elif isinstance(result, Comparison):
        what, sections = "Comparison", comparison_sections(result)
    else:
        known = "Report, Comparison or Diagnosis"
        check_kind("result", result, Diagnosis, called=known, advice="give what one of their functions gave")
        what, sections = "Diagnosis", diagnosis_sections(result)
    title = f"{what} on {log}" if log else what
    written = document(page(title, result.protocol, [*sections, *about]))
    with durable_file(as_path(path), replace=replace) as draft:
        draft.write_text(written, encoding="utf-8")


def page(title: str, protocol: str, sections: Sequence[Element]) -> Element:
    """The whole document around its sections, each made by `sasrec.report.elements.section`."""
    links = [tag("a", {"href": f"#{one.get('id')}"}, one.findtext("h2") or "") for one in sections]
    style = tag("style")
    style.text = files("sasrec.report").joinpath("page.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", {"charset": "utf-8"}),
        tag("meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY}),
        tag("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        tag("meta", {"name": "color-scheme", "content": "light dark"}),
        tag("title", f"{title} · sasrec"),
        style,
    )
    top = tag("header", tag("h1", title), tag("p.protocol", protocol), tag("nav", *links))
    foot = tag(
        "footer",
        f"Written by sasrec {__version__}. This page is complete in itself: it loads nothing and runs nothing.",
    )
    return tag("html", {"lang": "en"}, head, tag("body", top, tag("main", *sections), foot))
