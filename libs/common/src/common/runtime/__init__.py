"""The chassis: everything that does I/O, written once for all modules (see docs/chassis.md)."""
