"""Extraction on Apache Beam, into the store that one machine fills."""
