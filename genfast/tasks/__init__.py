"""What commands do with one item at a time, wherever the model is: objects that travel to other processes."""
