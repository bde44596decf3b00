"""Accuracy, choice by choice, over seeds: `python -m benchmarks.accuracy --help`.

    __main__.py   the command
    rows.py       what is tried: a row is a name and the settings that differ from the defaults
    run.py        one row with one seed: trained, blended, refit, tested once, told as JSON
    results.py    that JSON, read back and checked
    table.py      many of them as the tables of docs/accuracy.md

Every result holds the rank of each user's target as far as it counts, so whatever two rows are apart, with its
interval over users, follows from the results alone.
"""
