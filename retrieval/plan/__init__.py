"""`retrieval plan`: what a recipe will cost, before it is run."""
