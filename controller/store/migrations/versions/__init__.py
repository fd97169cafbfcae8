"""One file a step, oldest first; a step that was ever released is never changed."""
