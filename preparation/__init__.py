"""Large texts, turned into token shards: `python main.py prepare`. README.md says how."""
