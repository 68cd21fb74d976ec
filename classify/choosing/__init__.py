"""What an index is best made with, as its stored images tell, each left out in turn: k and weights, and steps."""
