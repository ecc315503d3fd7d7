//! Langfuse 2's public API, served from this machine over PostgreSQL, with version 2's own tables.
