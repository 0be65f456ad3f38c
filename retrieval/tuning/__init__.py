"""`retrieval tune`: a recipe's numbers, searched on validation rows."""
