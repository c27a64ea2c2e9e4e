"""The same job as others would do it, and what Prefect takes for nothing at all."""
