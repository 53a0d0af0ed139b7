"""What a study will cost, and which part of it is done, for ``imix plan``."""
