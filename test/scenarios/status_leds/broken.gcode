; Fails.
G28
G1 X1000
