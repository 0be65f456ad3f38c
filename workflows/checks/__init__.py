"""What is wrong or suspicious in a recipe's data."""
