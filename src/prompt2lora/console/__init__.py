"""The console: pages for the foreman of a plant, the manager who decides and the engineer behind them."""
