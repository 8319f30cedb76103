//! Overlays of the IstioOperator.
