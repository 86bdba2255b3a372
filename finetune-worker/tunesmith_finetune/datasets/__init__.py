"""From an uploaded dataset to rows of chat: `reader` reads files, `formats` knows columns, `encode` makes tokens."""
