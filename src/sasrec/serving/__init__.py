"""The saved model as an answer over HTTP: events, versions, requests."""
