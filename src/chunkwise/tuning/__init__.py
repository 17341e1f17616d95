"""Tuning: which settings suit a user's own documents, what they cost, and how sure that is."""
