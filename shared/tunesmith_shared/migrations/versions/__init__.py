"""One file a step of the schema, oldest first by `down_revision`."""
