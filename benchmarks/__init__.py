"""Measurements of time and memory: `python -m benchmarks --help`.

    __main__.py   the command: which cases, how often, on what
    measure.py    one sample: a function, alone in a fresh process, with its time and memory
    child.py      the process that a sample is taken in
    turns.py      many samples: every case once, then every case again
    report.py     many samples as rows, a table and JSON
    run.py        what the cases of one run share: the log, the folder, the threads
    inputs.py     the logs and the model that cases work on, made before anything is measured
    training.py   an epoch
    ranking.py    top-10 and evaluation of every user
    lookup.py     one user's best items at a time
    reading.py    from a file to a log
    startup.py    the import and the command line

More commands of their own stand beside it:

    guard.py        for CI: costs as multiples of the matrix products in them
    accuracy/       what each choice is worth, over seeds
    replication.py  accuracy on the four logs of the paper, beside what was published
    titles.py       vectors of items from their titles, for docs/items.md
    growth.py       time and memory against the size of the log and of the network; plot.py draws what it found
    million.py      one user's best items among a million, with trained vectors
    peers/          other systems beside this one
    serving/        the server under load
    survival/       what the server and a training survive

A module of cases is a list `CASES` and the functions that they name. All of them import what they measure inside
these functions: the process that starts the others stays small (see `measure.py`).
"""
