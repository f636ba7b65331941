"""Everything the bot remembers: tables, verbs and read-only reports."""
