"""Nova's side: our driver, the worker that runs it, and the supervisor of workers.

The only part of the control plane that imports nova's virt layer.
"""
