"""Many models at once on the devices: training by three engines, evaluation, and polishing."""
