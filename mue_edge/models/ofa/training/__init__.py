"""What training and measuring need of the network."""
