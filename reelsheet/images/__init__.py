"""Pictures: checks before anything is paid, file types, thumbnails."""
