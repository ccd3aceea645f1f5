"""Raw files: where they come from, how they are verified, how they get here. Nothing unverified is read."""
