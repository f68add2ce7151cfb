"""What batches keep: SQLite files with one writer each and any number of readers."""
