"""`sasrec serve` under load, beside a plain server that does the same."""
