"""The recipe reference of docs/, made of the config classes."""
