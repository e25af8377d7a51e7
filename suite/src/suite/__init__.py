"""The composition root: every module of the suite in one process."""
