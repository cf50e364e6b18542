"""Tools that ship: a corpus of passages, its index, and the functions an agent searches and reads it with."""
