"""From a file or frame to arrays: logs, vocabularies, sequences, splits. Never imports torch."""
