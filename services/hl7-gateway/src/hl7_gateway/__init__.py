"""HL7 v2 over MLLP: received, stored, acknowledged only then, and told to the suite."""
