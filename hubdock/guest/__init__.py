"""Programs that run inside images and builds. They use the standard library alone and import nothing of hubdock."""
