"""What benches found, as one page that needs nothing else."""
