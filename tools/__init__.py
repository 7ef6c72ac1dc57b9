"""What builds, starts and checks this project; not part of the product."""
