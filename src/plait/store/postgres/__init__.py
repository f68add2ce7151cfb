"""PostgreSQL as a store: the extra `postgres`. Nothing of it is imported before a DSN asks for it."""
