"""Real sample data; see SOURCES.md."""
