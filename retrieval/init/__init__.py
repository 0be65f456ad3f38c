"""`retrieval init`: a recipe for tables that nothing is known of yet."""
