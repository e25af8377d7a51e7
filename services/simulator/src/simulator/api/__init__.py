"""HTTP of the simulator: what an operator uses, and what the simulated vendor offers."""
