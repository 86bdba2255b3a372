"""The command `tunesmith`: the gateway's routes for people and scripts at a terminal.

It speaks HTTP and nothing else.
"""
