"""What a two-tower has to beat: popularity, item KNN, EASE and ALS on the same rows."""
