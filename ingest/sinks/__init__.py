"""Sinks: our side of every destination. A pure wire says what; a transport carries it."""
