"""Vocabulary (`common.models`) and chassis (`common.runtime`) of the suite."""
