"""What ends a command early."""


class CommandError(Exception):
    """A sentence for the person at the terminal: what happened, and what to do."""
