"""The Integration Simulator: synthetic practices behind vendors' interfaces, HL7 feeds, and faults to switch on."""
