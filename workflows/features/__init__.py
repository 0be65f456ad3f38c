"""Stage features: tables to the features of the towers."""
