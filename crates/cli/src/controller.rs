//! `chancery controller`: flags, help and printing of the certificate controller.
