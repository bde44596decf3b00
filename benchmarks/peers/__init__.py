"""Other systems beside this one, in one run: `python -m benchmarks.peers --help`.

    __main__.py       the command: which cases, in which environments, on which logs
    systems.py        the systems, and what is measured of each
    environments.py   a Python environment for each, built from pinned requirements
    checkouts.py      systems that are no packages, in a folder of repositories
    work.py           the work that all are given, and the one evaluator that judges them
    pace.py           which steps of a system's own loop are timed
    epoch.py          a sample: part of an epoch or all of it, and everybody's top-10
    quality.py        a sample: training until the validation NDCG@10 is reached
    tables.py         rows as Markdown
    drivers/          how each system is made to do the work
    requirements/     every package of each environment

What runs in the environment of another system imports nothing but the standard library and that system; `work`, `pace`,
`epoch`, `quality` and `drivers/authors.py` can be read by Python 3.7.
"""
