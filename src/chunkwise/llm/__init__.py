"""The tensor wing: language models. Knows tokens and content ids, nothing of documents."""
