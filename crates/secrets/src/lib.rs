//! The secrets server itself: mounts, tokens, policies, audit, engines.
