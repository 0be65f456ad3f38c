"""`retrieval explore`: a run in the browser, what it recommends, to whom and why."""
