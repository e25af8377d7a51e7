"""Real servers and guards for the tests: PostgreSQL, Apache Kafka, loopback only, shards."""
