"""Where records come from: each module reads one sort of source; none looks into a record."""
