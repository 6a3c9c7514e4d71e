bus = 1 / 0
