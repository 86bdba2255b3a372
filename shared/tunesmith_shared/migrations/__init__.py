"""The one history of the database's schema, for all services."""
