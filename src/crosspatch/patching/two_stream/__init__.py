"""Two streams in one forward pass of an unmodified model: the unpatched texts and the patched positions.

A transient patch at position t never changes what position t + 1 reads. So all positions of a text, and all patches,
can be computed in one pass: the first stream reads the texts and caches their keys and values; a patched position
attends to the cached keys and values of earlier positions, and to its own key and value.

All tokens of a pass form one sequence (batch size 1): the texts, of any length, then the patched positions, sorted by
their start block. A position patched at layer l is computed only from layer l on. Besides attention, every operation
of a decoder block handles each position separately, so only attention depends on which text a token belongs to. The
attention function is replaced through Hugging Face's attention interface, without changing the model.
"""
