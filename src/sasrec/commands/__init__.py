"""The commands of `sasrec`, one function each; all that is printed for people is printed here."""
