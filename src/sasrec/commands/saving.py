"""Where the commands that measure write what they found."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from sasrec.files import check_free

if TYPE_CHECKING:
    from sasrec.data.splits import Split
    from sasrec.evaluation.protocol import Report
    from sasrec.retrieval.recommender import Recommender


@dataclass(frozen=True, kw_only=True)
class Saving:
    """The files to write a result to.

    Attributes:
        json: File for all figures, as JSON; Recall, Precision and MAP are in it too.
        html: File for a page with tables and charts, which opens offline in any browser.
        titles: File of items with a column of titles, which then stand beside ids in the page.
        shown_user: A user who comes first among those that the page shows.
        replace: Take the place of files that are there already.
    """

    json: Path | None = None
    html: Path | None = None
    titles: Path | None = None
    shown_user: str | None = None
    replace: bool = False

    def check(self) -> None:
        """Refuse names that are taken, before any work is done; OutputError as `files.check_free`."""
        for path in (self.json, self.html):
            if path is not None:
                check_free(path, replace=self.replace)

    def save(self, result: "Report", model: "Recommender", data: "Split") -> None:
        """Write the files that were asked for; errors as `write_page`."""
        if self.json is not None:
            result.save_json(self.json, replace=self.replace)
        if self.html is not None:
            from sasrec.report.page import write_page

            user = None if self.shown_user is None else data.log.users.parse(self.shown_user)
            write_page(self.html, result, model=model, data=data, user=user, titles=self.titles, replace=self.replace)


SavingFlags = Annotated[Saving, Parameter(name="*", group=Group("Files", sort_key=2))]
