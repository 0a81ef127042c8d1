; Waits for a warm chamber, then prints some seconds.
CHAMBER_WAIT S=70
G4 P2000
G4 P2000
M400
PRINT_END
