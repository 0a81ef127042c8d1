; Two lanes, one after the other. The third is empty: try LOAD_LANE LANE=3 here.
G4 P1000
LOAD_LANE LANE=1 LENGTH=120
M117 first color
G4 P1000
LOAD_LANE LANE=2 LENGTH=120
M117 second color
G4 P1000
