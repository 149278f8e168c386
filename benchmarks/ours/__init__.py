"""The work of each case as tfxfer does it."""
