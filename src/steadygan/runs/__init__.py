"""Run folders: what is in them, said once, and everything that reads or writes them."""
