"""The decode step in C++, compiled once for a machine and put into a finished model."""
