"""Operators, one file per family. operator.py has their base class, catalogue.py the list of all."""
