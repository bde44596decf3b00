"""What others have published of the same logs, and what keeps a figure from being compared."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Somebody else's figure.

    Attributes:
        model: As its authors call it, with the loss where that is no part of the name.
        log: Of `rows.LOGS`.
        ndcg, hits: NDCG@10 and HR@10 on the test, whole catalogue.
        source: Where it is told.
        differs: What keeps it from being compared with ours; empty where nothing is known to.
    """

    model: str
    log: str
    ndcg: float
    hits: float
    source: str
    differs: str = ""


TIMES_KNOWN = "the time of the request is known"
_STUDY = "FreeRec's study"
_ESASREC = "repository of eSASRec (RecSys 2025)"
_GRID = "Time to Split (RecSys 2025), best of 108 on validation"
_KLENITSKIY = "antklen/sasrec-bert4rec-recsys23"
_CHECK = "SAR-Check (WSDM 2025)"
_MEASURED = "measured by RecBoard, 5 seeds"
_LEARNS = "also learns from the validation items of most users"
_CATALOGUE = "3,706 items: another version of the log"
_SHORT = "looks at 50 events"
_BEST_ON_TEST = "its settings were chosen by what they reach on the test"
_UNFILTERED = "not known whether seen items are left out"

PUBLISHED = (
    Published("SASRec, binary cross-entropy", "beauty", 0.0354, 0.0668, _MEASURED),
    Published("SASRec, sampled softmax", "beauty", 0.0531, 0.0921, _ESASREC, "users with new test items left out"),
    Published("eSASRec", "beauty", 0.0523, 0.0928, _ESASREC, "users with new test items left out"),
    Published("HSTU", "beauty", 0.0543, 0.0945, _MEASURED, TIMES_KNOWN),
    Published("SASRec, cross-entropy", "beauty", 0.0588, 0.0974, _GRID),
    Published("SASRec, cross-entropy, rolling windows", "beauty", 0.0595, 0.0990, _STUDY),
    Published("BSARec", "beauty", 0.0610, 0.1002, _MEASURED),
    Published("WEARec", "beauty", 0.0614, 0.1041, "authors' logs (AAAI 2026)", _BEST_ON_TEST),
    Published(
        "SASRec, cross-entropy (RecBole)", "beauty", 0.0432, 0.0848, "an issue of RecBole", "seen items rank too"
    ),
    Published(
        "S3Rec, cross-entropy", "beauty", 0.0629, 0.1058, "log of Li et al.", "learns from attributes of the items"
    ),
    Published("SASRec, cross-entropy", "games", 0.0560, 0.1125, _CHECK, _UNFILTERED),
    Published("Transformer-XL", "games", 0.0569, 0.1106, _CHECK, _UNFILTERED),
    Published("SASRec, binary cross-entropy", "ml-1m", 0.1341, 0.2500, _KLENITSKIY),
    Published("BERT4Rec", "ml-1m", 0.1561, 0.2841, _GRID),
    Published("BSARec", "ml-1m", 0.1568, 0.2757, "its paper (AAAI 2024)", _SHORT),
    Published("SASRec, sampled softmax", "ml-1m", 0.1684, 0.2929, _ESASREC, _CATALOGUE),
    Published("gSASRec", "ml-1m", 0.1726, 0.3003, "its repository (RecSys 2023)", _LEARNS),
    Published("eSASRec", "ml-1m", 0.1772, 0.3133, _ESASREC, _CATALOGUE),
    Published("SASRec, softmax (RecTools)", "ml-1m", 0.1779, 0.3058, "RecTools' benchmark", _LEARNS),
    Published("SASRec, cross-entropy", "ml-1m", 0.1821, 0.3152, _KLENITSKIY),
    Published("SASRec, 3,000 negatives", "ml-1m", 0.1857, 0.3159, _KLENITSKIY),
    Published("SASRec, cross-entropy", "ml-1m", 0.1858, 0.3207, _GRID),
    Published("WEARec", "ml-1m", 0.1904, 0.3334, "its repository (AAAI 2026)", _BEST_ON_TEST),
    Published("HSTU, 2 layers", "ml-1m", 0.1879, 0.3226, "RecTools", TIMES_KNOWN),
    Published("HSTU, 8 layers", "ml-1m", 0.2164, 0.3642, "RecTools", TIMES_KNOWN),
    Published("SASRec, cross-entropy", "ml-1m-time", 0.0948, 0.1596, _GRID),
)
"""By log, as the sources tell them; none was measured here."""
