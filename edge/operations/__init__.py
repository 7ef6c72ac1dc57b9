"""Operations at the edge: accepted once, run on vCenter, results kept until acknowledged."""
