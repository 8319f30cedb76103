//! X.509: a CSR, a profile and an issuer become a certificate. No I/O.
