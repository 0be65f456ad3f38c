"""What a step minimises: softmaxes over candidates, teachers, ratings and other tasks."""
