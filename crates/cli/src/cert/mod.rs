//! `chancery cert`: what operators ask about certificates in a cluster.
