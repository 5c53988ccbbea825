"""Two streams in one pass: an unmodified model reads texts as usual, and beside them the patched positions.

A transient patch at position t never changes what position t + 1 reads. So all positions of a text, and all patches,
can be computed in one pass: the first stream reads the texts and leaves its keys and values; a patched position
attends to that stream's keys and values before it, and to its own at itself.

All tokens of a pass lie side by side in one sequence (batch 1), texts of any length, patched positions last and in
the order in which they join: a position patched at layer l is computed from layer l on. Besides attention, every
operation of a decoder block works on one position alone, so only attention depends on which text a token
belongs to. It is replaced through Hugging Face's attention interface, without changing the model.
"""
