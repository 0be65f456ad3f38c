"""`retrieval query`: a question on the command line, its filter, and answers in words."""
