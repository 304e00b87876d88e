"""Is it marked, by whom, and is it as it was signed: of files, addresses and cameras; as a command, a call, a page."""
