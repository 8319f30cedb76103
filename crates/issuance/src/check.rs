//! Reading back what was signed, with a decoder that shares no code with the encoder.
