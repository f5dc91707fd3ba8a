"""The networks of the codec in torch: analysis, hyper path, means and steps, class map, synthesis."""
