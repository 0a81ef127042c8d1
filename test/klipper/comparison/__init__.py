"""The virtual Klippy compared with a real one: the same requests in, the same answers, updates and console lines out.

`scenarios/*.yaml` say what is sent, `printers/*.cfg` to which printer, `known_differences.yaml` where the two may
differ and why. `play` sends, `normal` takes out what no two runs have in common, `difference` compares. What a real
Klipper said is kept in `test/transcripts/` (made by `scripts/record_transcripts.py`), so that the virtual one is
compared where no Klipper is at hand.
"""
