"""The ring as a log of numbered entries, as facts: entries, changes of them, votes about the next one."""
