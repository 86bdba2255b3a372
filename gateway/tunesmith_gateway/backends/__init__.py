"""Where inference goes: a table of backends behind one Protocol, a module a kind."""
