"""Files of any format, to Arrow tables."""
