; A print of some seconds that needs neither heaters nor axes: short moves, as other G-code gets its turn between them.
PRINT_START LANE=1 LENGTH=120
SET_KINEMATIC_POSITION X=0 Y=0 Z=0
G1 X20 F3000
G1 Y20
G1 X0
G1 Y0
G1 X20
G1 Y20
G1 X0
G1 Y0
G1 X20
G1 Y20
G1 X0
G1 Y0
M400
PRINT_END
