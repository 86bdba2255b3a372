"""Tunesmith's documents: PDF ingestion, vector stores, multi-query retrieval with page citations."""
