"""What the pipeline costs, as ratios measured in one run. See README.md for what each means."""
