"""How each system is made to do the work: a module for each, imported in its environment alone.

Every module has a class `System`, made from the `Work`, settings as `sasrec.Config` has them, and a number of threads:

    windows   the real targets of each window that an epoch should hold, by the system's own rule
    steps     steps of a whole epoch
    epoch     trains in the system's own loop, telling a `Pace` of every step, until it is enough or the epoch ends
    top       the ten best items of every user, in the order of the users, without items that they had
    best      the same for "valid" or "test"; where `quality` trains the system

Nothing of a system is copied here: what is a package is imported, what is a repository is put on the path, and a loop
that only stands in a script's `main` is written again on top of its functions.
"""
