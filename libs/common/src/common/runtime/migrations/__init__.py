"""Migrations of the chassis: their own chain, in the version table `chassis_version`."""
