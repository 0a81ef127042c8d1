"""Where the toolhead is and how long a move takes: toolhead, kinematics, extruder, G0/G1/G28."""
