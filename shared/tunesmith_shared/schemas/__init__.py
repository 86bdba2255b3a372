"""What crosses a service boundary, in OpenAI's shapes (API.md of the gateway lists the fields)."""
