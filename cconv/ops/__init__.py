"""Operators: one file per family, see operator.py for the contract and catalogue.py for the list."""
