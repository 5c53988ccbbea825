"""Grades generated texts (answers, stated operations, text health) and checks datasets. Needs no torch."""
