"""`vividstream prepare`: real video -> aligned, identity-consistent clips in WebDataset shards."""
