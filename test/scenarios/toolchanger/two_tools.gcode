; Two tools, one after the other.
T0
G4 P500
M400
T1
G4 P500
M400
T0
G4 P500
M400
